"""A service file, YAML, TOML or JSON, read into a checked `deploy` payload of the wire contract.

Bounded before and after parsing: a file is at most 256 KiB, 32 levels deep and 10,000 values wide (YAML aliases
counted as often as they are used), so no file can keep the parser busy for long.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from syntra.agent.config.files import FileProblem, read_small
from syntra.cli.errors import CliError
from syntra.cli.exit_codes import ExitCode
from syntra.cli.service_payload import ServiceMistake, build_payload

SIZE_MAX = 256 * 1024
DEPTH_MAX = 32
VALUES_MAX = 10_000

Place = tuple[str | int, ...]
"""Where a value stands: keys and indexes from the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a file says. `lines` (1-based) and `spellings` (plain scalars as written) exist for YAML only."""

    value: object
    lines: dict[Place, int] = field(default_factory=dict)
    spellings: dict[Place, str] = field(default_factory=dict)


class Unreadable(Exception):
    """The text does not parse; `line` is 1-based, 0 where nobody knows."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


def read_service(path: Path) -> dict[str, object]:
    """The payload. Raises CliError with `FILE:LINE: field: reason`, exit code 2."""
    try:
        text = read_small(path, limit=SIZE_MAX).data.decode().removeprefix("\ufeff")
        parsed = parse(text, path.suffix.lower())
        return build_payload(parsed.value, stem=path.stem, spellings=parsed.spellings)
    except (FileProblem, Unreadable) as exc:
        place = f"{path}:{exc.line}" if isinstance(exc, Unreadable) and exc.line else str(path)
        raise CliError(f"cannot read service file {place}: {exc}", ExitCode.USAGE) from exc
    except UnicodeDecodeError as exc:
        raise CliError(f"cannot read service file {path}: it is not UTF-8 text", ExitCode.USAGE) from exc
    except ServiceMistake as exc:
        line = _line(parsed.lines, exc.place)
        where = f"{path}:{line}" if line else str(path)
        raise CliError(f"cannot use service file {where}: {exc}", ExitCode.USAGE) from exc


def parse(text: str, suffix: str) -> Parsed:
    """Parse by the file's ending. Raises Unreadable."""
    match suffix:
        case ".yaml" | ".yml":
            # Here rather than on top: the parser of another format is not loaded for nothing.
            from syntra.cli.service_yaml import parse_yaml

            return parse_yaml(text)
        case ".toml":
            parsed = Parsed(value=_toml(text))
        case ".json":
            parsed = Parsed(value=_json(text))
        case _:
            raise Unreadable("it is of an unknown kind; name it .yaml, .toml or .json")
    _bounded(parsed.value)
    return parsed


def _toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise Unreadable(str(exc)) from exc
    except (RecursionError, ValueError) as exc:
        raise Unreadable("a value is too deep or too long") from exc


def _json(text: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            names = [name for name, _ in pairs]
            raise Unreadable(f"key {next(name for name in names if names.count(name) > 1)!r} is there twice")
        return mapping

    def no_constant(name: str) -> object:
        raise Unreadable(f"{name} is not JSON")

    try:
        value: object = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except json.JSONDecodeError as exc:
        raise Unreadable(exc.msg, exc.lineno) from exc
    except (RecursionError, ValueError) as exc:
        raise Unreadable("a value is too deep or too long") from exc
    return value


def _bounded(value: object) -> None:
    level, count = [value], 0
    for _ in range(DEPTH_MAX):
        count += len(level)
        if count > VALUES_MAX:
            raise Unreadable(f"it holds more than {VALUES_MAX} values")
        below: list[object] = []
        for item in level:
            below += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        if not below:
            return
        level = below
    raise Unreadable(f"it is nested more than {DEPTH_MAX} levels deep")


def _line(lines: dict[Place, int], place: Place) -> int:
    """The line of the value, or of the nearest value around it."""
    for length in range(len(place), -1, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return 0
