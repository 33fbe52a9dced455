"""Typed reading of payload mappings: every accessor names the dotted path of what it refuses.

A key that is absent or null gives the default; a key of the wrong type is an error, never a default. What should have
been an object, a list or a text may hold secrets, so its error tells the type and not the value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from syntra.model.errors import InvalidField

T = TypeVar("T")
Json = object

MAX_TEXT = 64 * 1024
# About 60 digits. Beyond 4300 of them the interpreter refuses to spell an integer out.
_SPELLED_BITS = 200


class Fields:
    """A view of one JSON object at `path`. Aliases are tried in order, so older shapes read like the current one."""

    __slots__ = ("_mapping", "path")

    def __init__(self, mapping: Mapping[str, Json], path: str = "") -> None:
        self._mapping = mapping
        self.path = path

    def at(self, key: str) -> str:
        """The dotted path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def keys(self) -> list[str]:
        """The keys that are present, null or not."""
        return list(self._mapping)

    def has(self, *keys: str) -> bool:
        """Whether one of the keys is present and not null."""
        return any(self._mapping.get(key) is not None for key in keys)

    def raw(self, *keys: str) -> tuple[str, Json]:
        """The path and value of the first key that is present; the first key's path and None when none is."""
        for key in keys:
            if self._mapping.get(key) is not None:
                return self.at(key), self._mapping[key]
        return self.at(keys[0]), None

    def text(self, *keys: str, default: str | None = None) -> str:
        """A string (numbers are not coerced); required when `default` is None."""
        path, value = self.raw(*keys)
        if value is None:
            return _required(path, default)
        return as_text(path, value)

    def optional_text(self, *keys: str) -> str | None:
        """A string, or None when absent or empty."""
        path, value = self.raw(*keys)
        return (as_text(path, value) or None) if value is not None else None

    def quantity(self, *keys: str) -> str | None:
        """A string or a plain number, as text: sizes and CPU shares come as both. None only when absent."""
        path, value = self.raw(*keys)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidField(path, f"{_kind(value)} is not a quantity")
        if isinstance(value, float):
            return format(value, ".9f").rstrip("0").rstrip(".")
        return value if isinstance(value, str) else _short(value)

    def secret(self, *keys: str) -> str | None:
        """A string that never appears in an error, or None when absent."""
        path, value = self.raw(*keys)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise InvalidField(path, "is not a string of at most 64 KiB")
        return value

    def integer(self, *keys: str, default: int | None = None, low: int, high: int) -> int:
        """A whole number within [low, high]."""
        path, value = self.raw(*keys)
        if value is None:
            return _required(path, default)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidField(path, f"{_kind(value)} is not a whole number")
        if not low <= value <= high:
            raise InvalidField(path, f"{_short(value)} is out of range ({low}–{high})")
        return value

    def number(self, *keys: str, default: float | None = None, low: float, high: float) -> float:
        """A finite number within [low, high]; strings such as `10s` or `500ms` are durations in seconds."""
        path, value = self.raw(*keys)
        if value is None:
            return _required(path, default)
        if isinstance(value, str):
            value = _duration(path, value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidField(path, f"{_kind(value)} is not a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidField(path, "is not a finite number")
        if not low <= value <= high:
            raise InvalidField(path, f"{_short(value)} is out of range ({low:g}–{high:g})")
        return float(value)

    def boolean(self, *keys: str, default: bool | None = None) -> bool:
        """True or false; nothing else counts as either."""
        path, value = self.raw(*keys)
        if value is None:
            return _required(path, default)
        if not isinstance(value, bool):
            raise InvalidField(path, f"{_kind(value)} is not true or false")
        return value

    def choice(self, *keys: str, among: Mapping[str, T], default: T | None = None) -> T:
        """One of a closed set of words."""
        path, value = self.raw(*keys)
        if value is None:
            return _required(path, default)
        word = as_text(path, value)
        if word not in among:
            raise InvalidField(path, f"{word[:40]!r} is not one of {', '.join(among)}")
        return among[word]

    def section(self, *keys: str) -> Fields | None:
        """A nested object, or None when absent."""
        path, value = self.raw(*keys)
        if value is None:
            return None
        return Fields(as_mapping(path, value), path)

    def sections(self, *keys: str, limit: int = 1000) -> list[Fields]:
        """A list of objects; absent is empty."""
        path, value = self.raw(*keys)
        return [
            Fields(as_mapping(f"{path}[{index}]", item), f"{path}[{index}]")
            for index, item in enumerate(as_list(path, value, limit))
        ]

    def texts(self, *keys: str, limit: int = 1000) -> tuple[str, ...]:
        """A list of strings; absent is empty."""
        path, value = self.raw(*keys)
        return tuple(as_text(f"{path}[{index}]", item) for index, item in enumerate(as_list(path, value, limit)))

    def text_map(self, *keys: str, limit: int = 1000) -> dict[str, str]:
        """An object of strings; numbers and booleans become their JSON spelling, since environments are text."""
        path, value = self.raw(*keys)
        if value is None:
            return {}
        mapping = as_mapping(path, value)
        if len(mapping) > limit:
            raise InvalidField(path, f"{len(mapping)} entries are more than {limit}")
        return {as_text(path, key): _env_text(f"{path}.{key[:60]}", item) for key, item in mapping.items()}


def as_mapping(path: str, value: Json) -> Mapping[str, Json]:
    """The value as an object with string keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidField(path, f"{_shape(value)} is not an object")
    return value


def as_list(path: str, value: Json, limit: int) -> Sequence[Json]:
    """The value as a list of at most `limit` items; null is empty."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidField(path, f"{_shape(value)} is not a list")
    if len(value) > limit:
        raise InvalidField(path, f"{len(value)} entries are more than {limit}")
    return value


def as_text(path: str, value: Json) -> str:
    """The value as a string without NUL, at most 64 KiB: it becomes an argument, a label or a name."""
    if not isinstance(value, str):
        raise InvalidField(path, f"{_shape(value)} is not a string")
    if "\0" in value:
        raise InvalidField(path, "contains a NUL character")
    if len(value) > MAX_TEXT:
        raise InvalidField(path, f"{len(value)} characters are more than {MAX_TEXT}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidField(path, "is not valid Unicode text") from None
    return value


def _env_text(path: str, value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if not math.isfinite(value) if isinstance(value, float) else value.bit_length() > _SPELLED_BITS:
            raise InvalidField(path, "is not a finite number of at most 60 digits; send it as a string")
        return str(value)
    return as_text(path, value)


def _duration(path: str, text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    digits = text.rstrip("hms")
    unit = text[len(digits) :] or "s"
    if unit not in units or not digits.replace(".", "", 1).isascii() or not digits.replace(".", "", 1).isdigit():
        raise InvalidField(path, f"{text[:40]!r} is not a duration (like 10, 10s or 500ms)")
    return float(digits) * units[unit]


def _required(path: str, default: T | None) -> T:
    if default is None:
        raise InvalidField(path, "is missing")
    return default


def _kind(value: Json) -> str:
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _short(value)
    return _shape(value)


def _shape(value: Json) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else "null" if value is None else type(value).__name__


def _short(value: int | float) -> str:
    if isinstance(value, int) and value.bit_length() > _SPELLED_BITS:
        return "the number"
    return f"{value:g}" if isinstance(value, float) else str(value)
