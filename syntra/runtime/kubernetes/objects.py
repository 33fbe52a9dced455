"""Typed reading of Kubernetes objects, which are dicts as the API has them. Pure.

The objects come from a cluster and may have any shape. No reader raises: what is absent or of another type reads as
empty.
"""

from __future__ import annotations

from collections.abc import Iterable

from syntra.model.fields import Json
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import parse_ns

Object = dict[str, Json]


def value(source: Json, *path: str) -> Json:
    """What is at a path of keys; None where there is nothing."""
    for key in path:
        if not isinstance(source, dict):
            return None
        source = source.get(key)
    return source


def text(source: Json, *path: str) -> str:
    """The string at a path, or an empty one."""
    found = value(source, *path)
    return found if isinstance(found, str) else ""


def integer(source: Json, *path: str, default: int = 0) -> int:
    """The integer at a path, or the default. A boolean is none."""
    found = value(source, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else default


def is_true(source: Json, *path: str) -> bool:
    """Whether the value at a path is `true`."""
    return value(source, *path) is True


def mapping(source: Json, *path: str) -> Object:
    """The object at a path, or an empty one."""
    found = value(source, *path)
    return found if isinstance(found, dict) else {}


def texts(source: Json, *path: str) -> dict[str, str]:
    """The strings of the object at a path, such as labels."""
    return {key: found for key, found in mapping(source, *path).items() if isinstance(found, str)}


def items(source: Json, *path: str) -> tuple[Object, ...]:
    """The objects in the list at a path."""
    found = value(source, *path)
    return tuple(item for item in found if isinstance(item, dict)) if isinstance(found, list) else ()


def seconds(source: Json, *path: str) -> float | None:
    """The time at a path, in epoch seconds; None where there is none."""
    try:
        nanoseconds = parse_ns(text(source, *path))
    except AgentError:
        return None
    return None if nanoseconds is None else nanoseconds / 1e9


def condition(source: Json, kind: str) -> Object:
    """The condition of a type in an object's status, or an empty one."""
    return next((item for item in items(source, "status", "conditions") if text(item, "type") == kind), {})


def name(source: Json) -> str:
    """The object's name."""
    return text(source, "metadata", "name")


def label(source: Json, key: str) -> str:
    """The value of one of the object's labels, or an empty one."""
    return texts(source, "metadata", "labels").get(key, "")


def annotation(source: Json, key: str) -> str:
    """The value of one of the object's annotations, or an empty one."""
    return texts(source, "metadata", "annotations").get(key, "")


def without_empty(wanted: Iterable[tuple[str, Json]]) -> Object:
    """An object of these fields, without None and empty texts, lists and objects; `false` and 0 stay."""
    return {key: found for key, found in wanted if found is not None and found not in ("", [], {})}
