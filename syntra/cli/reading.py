"""Tolerant reading of the agent's answers.

The agent may be older or newer than this command line. A field that is missing or of another type is shown as unknown
instead of taking the whole answer down.
"""

from __future__ import annotations

from collections.abc import Mapping

Json = Mapping[str, object]

UNKNOWN = "-"


def text(source: Json, name: str, default: str = UNKNOWN) -> str:
    """A text or number as text; anything else, or an empty text, is the default."""
    value = source.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return default
    return str(value)


def number(source: Json, name: str) -> float | None:
    """A number, or None."""
    value = source.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def section(source: Json, name: str) -> Json:
    """An object, or an empty one."""
    value = source.get(name)
    return value if isinstance(value, dict) else {}


def rows(source: Json, name: str) -> list[Json]:
    """The objects of a list; other items are left out."""
    value = source.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(source: Json, name: str) -> list[str]:
    """The texts of a list; other items are left out."""
    value = source.get(name)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
