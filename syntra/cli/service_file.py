"""Reads a service file (YAML, TOML or JSON) and returns a validated `deploy` payload of the wire contract."""

from __future__ import annotations

from pathlib import Path

from syntra.agent.config.files import FileMissing, FileProblem, read_small
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.service_document import Parsed, Place, Unreadable, parse_json, parse_toml
from syntra.cli.service_payload import ServiceMistake, build_payload

SIZE_MAX = 256 * 1024


def read_service(path: Path) -> dict[str, object]:
    """The payload. Raises CliError with `FILE:LINE: field: reason`, exit code 2."""
    try:
        text = read_small(path, limit=SIZE_MAX).data.decode().removeprefix("\ufeff")
        parsed = parse(text, path.suffix.lower())
        return build_payload(parsed.value, stem=path.stem, spellings=parsed.spellings)
    except FileMissing as exc:
        raise CliError(f"cannot read service file {path}: {exc}; check the path", ExitCode.USAGE) from exc
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
    """Parse by the file name's suffix. Raises Unreadable."""
    match suffix:
        case ".yaml" | ".yml":
            # Imported here: the other formats do not need this parser.
            from syntra.cli.service_yaml import parse_yaml

            return parse_yaml(text)
        case ".toml":
            return parse_toml(text)
        case ".json":
            return parse_json(text)
        case _:
            raise Unreadable("it is of an unknown kind; name it .yaml, .toml or .json")


def _line(lines: dict[Place, int], place: Place) -> int:
    """The line of the value, or of its nearest parent."""
    for length in range(len(place), -1, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return 0
