"""Reads a service file (YAML, TOML or JSON) and returns a validated `deploy` payload of the wire contract."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from syntra.agent.config.files import FileMissing, FileProblem, read_small
from syntra.cli.env_file import EnvFileMistake, read_env_file
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.service_document import Parsed, Place, Unreadable, parse_json, parse_toml
from syntra.cli.service_payload import build_payload
from syntra.cli.service_shapes import ServiceMistake

SIZE_MAX = 256 * 1024
STDIN = "-"


def read_service(path: Path) -> dict[str, object]:
    """The payload; `-` reads standard input. Raises CliError with `FILE:LINE: field: reason`, exit code 2."""
    from_stdin = str(path) == STDIN
    shown = "standard input" if from_stdin else str(path)
    directory = Path() if from_stdin else path.parent

    def env_file(name: str) -> Mapping[str, str]:
        return read_env_file(directory / name, os.environ)

    try:
        data = _stdin() if from_stdin else read_small(path, limit=SIZE_MAX).data
        text = data.decode().removeprefix("\ufeff")
        parsed = parse(text, _stdin_kind(text) if from_stdin else path.suffix.lower())
        stem = "" if from_stdin else path.stem
        return build_payload(parsed.value, stem=stem, spellings=parsed.spellings, env_file=env_file)
    except FileMissing as exc:
        raise CliError(f"cannot read service file {shown}: {exc}; check the path", ExitCode.USAGE) from exc
    except (FileProblem, Unreadable) as exc:
        place = f"{shown}:{exc.line}" if isinstance(exc, Unreadable) and exc.line else shown
        raise CliError(f"cannot read service file {place}: {exc}", ExitCode.USAGE) from exc
    except UnicodeDecodeError as exc:
        raise CliError(f"cannot read service file {shown}: it is not UTF-8 text", ExitCode.USAGE) from exc
    except EnvFileMistake as exc:
        raise CliError(f"cannot use service file {shown}: env_file: {exc}", ExitCode.USAGE) from exc
    except ServiceMistake as exc:
        line = _line(parsed.lines, exc.place)
        where = f"{shown}:{line}" if line else shown
        raise CliError(f"cannot use service file {where}: {exc}", ExitCode.USAGE) from exc


def _stdin() -> bytes:
    data = sys.stdin.buffer.read(SIZE_MAX + 1)
    if len(data) > SIZE_MAX:
        raise FileProblem(f"it is larger than {SIZE_MAX // 1024} KiB")
    return data


def _stdin_kind(text: str) -> str:
    """Standard input has no name that would tell: JSON begins with a brace, all else is YAML."""
    return ".json" if text.lstrip().startswith("{") else ".yaml"


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
