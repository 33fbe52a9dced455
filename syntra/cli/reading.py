"""Reads the agent's answers tolerantly.

The agent may be older or newer than this command line. A field that is missing or has another type is shown as unknown,
and does not make the whole answer fail.
"""

from __future__ import annotations

from collections.abc import Mapping

Json = Mapping[str, object]

UNKNOWN = "-"


def text(source: Json, name: str, default: str = UNKNOWN) -> str:
    """A string or number as text; the default for anything else and for an empty string."""
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
    """The objects in a list; other items are skipped."""
    value = source.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(source: Json, name: str) -> list[str]:
    """The strings in a list; other items are skipped."""
    value = source.get(name)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
