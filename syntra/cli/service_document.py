"""The parsed content of a service file in any format, and the limits for all formats.

A document has at most 32 levels and 10,000 values (a YAML alias counts each time it is used), so no file can keep the
parser busy for long.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import field

from syntra.utils.frozen import frozen

DEPTH_MAX = 32
VALUES_MAX = 10_000
_TOML_PLACE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)

Place = tuple[str | int, ...]
"""The path of a value: keys and indexes from the root."""

Mark = tuple[int, int]
"""Line and column of a key or of a list's item in the text, both 1-based."""


@frozen
class Parsed:
    """A parsed file. Only YAML sets `marks`; `service_places` finds those of the other formats.

    `spellings` are plain scalars as written: all of them in YAML, numbers with a fraction in TOML and JSON.
    """

    value: object
    marks: dict[Place, Mark] = field(default_factory=dict)
    spellings: dict[Place, str] = field(default_factory=dict)


class Unreadable(Exception):
    """The text does not parse; `mark` says where, None when unknown."""

    def __init__(self, reason: str, mark: Mark | None = None) -> None:
        super().__init__(reason)
        self.mark = mark


class _Spelled(float):
    """A number with a point or an exponent, as it was written."""

    spelling: str

    @classmethod
    def read(cls, text: str) -> _Spelled:
        number = cls(text)
        number.spelling = text
        return number


def parse_toml(text: str) -> Parsed:
    """Raises Unreadable."""
    try:
        return bounded(tomllib.loads(text, parse_float=_Spelled.read))
    except tomllib.TOMLDecodeError as exc:
        # Before Python 3.14 the place is in the message only.
        said = _TOML_PLACE.fullmatch(str(exc))
        raise Unreadable(said[1] if said else str(exc), (int(said[2]), int(said[3])) if said else None) from exc
    except (RecursionError, ValueError) as exc:
        raise Unreadable("a value is too deep or too long") from exc


def parse_json(text: str) -> Parsed:
    """Raises Unreadable."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            names = [name for name, _ in pairs]
            raise Unreadable(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
        return mapping

    def no_constant(name: str) -> object:
        raise Unreadable(f"{name} is not JSON")

    try:
        value: object = json.loads(
            text, object_pairs_hook=unique, parse_constant=no_constant, parse_float=_Spelled.read
        )
    except json.JSONDecodeError as exc:
        raise Unreadable(exc.msg, (exc.lineno, exc.colno)) from exc
    except (RecursionError, ValueError) as exc:
        raise Unreadable("a value is too deep or too long") from exc
    return bounded(value)


def bounded(value: object) -> Parsed:
    """The value, once its size was checked. Raises Unreadable."""
    level: list[tuple[Place, object]] = [((), value)]
    count = 0
    spellings: dict[Place, str] = {}
    for _ in range(DEPTH_MAX):
        count += len(level)
        if count > VALUES_MAX:
            raise Unreadable(f"it holds more than {VALUES_MAX} values")
        below: list[tuple[Place, object]] = []
        for place, item in level:
            if isinstance(item, _Spelled):
                spellings[place] = item.spelling
            pairs = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
            below += [((*place, step), inner) for step, inner in pairs]
        if not below:
            return Parsed(value=value, spellings=spellings)
        level = below
    raise Unreadable(f"it is nested more than {DEPTH_MAX} levels deep")
