"""Reads decoded JSON tolerantly: a missing or mistyped field becomes an empty value.

The engine's answers differ by API version and by engine (Podman omits fields), so missing fields are normal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def walk(source: object, *path: str) -> object:
    """The value under nested keys; None when any of them is missing."""
    for key in path:
        if not isinstance(source, Mapping):
            return None
        source = source.get(key)
    return source


def text(source: object, *path: str) -> str:
    """A string, or ""."""
    value = walk(source, *path)
    return value if isinstance(value, str) else ""


def integer(source: object, *path: str) -> int:
    """An integer, or 0. Accepts floats without a fraction, as some encoders write them."""
    value = walk(source, *path)
    if isinstance(value, bool):
        return 0
    if isinstance(value, float):
        return int(value) if value.is_integer() else 0
    return value if isinstance(value, int) else 0


def flag(source: object, *path: str) -> bool:
    """True only for a true value."""
    return walk(source, *path) is True


def mapping(source: object, *path: str) -> Mapping[str, object]:
    """An object, or {}."""
    value = walk(source, *path)
    return value if isinstance(value, Mapping) else {}


def array(source: object, *path: str) -> Sequence[object]:
    """A list, or ()."""
    value = walk(source, *path)
    return value if isinstance(value, list) else ()


def texts(source: object, *path: str) -> tuple[str, ...]:
    """The strings of a list."""
    return tuple(item for item in array(source, *path) if isinstance(item, str))


def labels(source: object, *path: str) -> dict[str, str]:
    """The string values of an object."""
    return {key: value for key, value in mapping(source, *path).items() if isinstance(value, str)}


def pairs(source: object, *path: str) -> dict[str, str]:
    """Parse a list of `NAME=value`; the last one of a name wins."""
    split = (item.partition("=") for item in texts(source, *path))
    return {name: value for name, equals, value in split if equals}
