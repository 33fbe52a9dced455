"""Reads a service file (YAML, TOML or JSON) and returns a validated `deploy` payload of the wire contract."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from syntra.agent.config.files import FileMissing, FileProblem, read_small
from syntra.cli.env_file import read_env_file
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.service_document import Mark, Parsed, Place, Unreadable, parse_json, parse_toml
from syntra.cli.service_mistakes import MOST_MISTAKES, every_mistake
from syntra.cli.service_payload import build_payload
from syntra.cli.service_shapes import ServiceMistake, Spellings
from syntra.cli.terminal import err

SIZE_MAX = 256 * 1024
STDIN = "-"
LINES_SHOWN = 10


def read_service(path: Path, *, variables: Mapping[str, str] | None = None) -> dict[str, object]:
    """The payload; `-` reads standard input. Raises CliError with `FILE:LINE:COLUMN: field: reason`, exit code 2.

    It has all mistakes of the file, but only the first of a file that does not parse. `variables` are expanded in the
    values; without them, a `${VAR}` stays as it is, and a warning says where.
    """
    from_stdin = str(path) == STDIN
    shown = "standard input" if from_stdin else str(path)
    directory = Path() if from_stdin else path.parent
    stem = "" if from_stdin else path.stem

    def env_file(name: str) -> Mapping[str, str]:
        return read_env_file(directory / name, os.environ)

    def check(value: object, spellings: Spellings) -> dict[str, object]:
        return build_payload(value, stem=stem, spellings=spellings, env_file=env_file)

    try:
        data = _stdin() if from_stdin else read_small(path, limit=SIZE_MAX).data
        text = data.decode().removeprefix("\ufeff")
        suffix = _stdin_kind(text) if from_stdin else path.suffix.lower()
        parsed = parse(text, suffix)
        unset: list[ServiceMistake] = []
        if variables is not None:
            # Imported here: most files have nothing to expand.
            from syntra.cli.service_expand import expanded

            parsed, unset = expanded(parsed, variables)
        elif "${" in text:
            _warn_of_references(shown, parsed, text, suffix)
        if unset:
            raise CliError(_all_said(shown, unset, marks_of(parsed, text, suffix)), ExitCode.USAGE)
        return check(parsed.value, parsed.spellings)
    except FileMissing as exc:
        raise CliError(f"cannot read service file {shown}: {exc}; check the path", ExitCode.USAGE) from exc
    except (FileProblem, Unreadable) as exc:
        place = _placed(shown, exc.mark if isinstance(exc, Unreadable) else None)
        raise CliError(f"cannot read service file {place}: {exc}", ExitCode.USAGE) from exc
    except UnicodeDecodeError as exc:
        said = f"cannot read service file {shown}: it is not UTF-8 text; save it as UTF-8"
        raise CliError(said, ExitCode.USAGE) from exc
    except ServiceMistake as exc:
        mistakes = every_mistake(parsed.value, parsed.spellings, check) or [exc]
        raise CliError(_all_said(shown, mistakes, marks_of(parsed, text, suffix)), ExitCode.USAGE) from exc


def _warn_of_references(shown: str, parsed: Parsed, text: str, suffix: str) -> None:
    from syntra.cli.service_expand import references

    marks = marks_of(parsed, text, suffix)
    lines = sorted({_nearest(marks, place)[0] for place in references(parsed.value)})
    if lines:
        where = ", ".join(str(line) for line in lines[:LINES_SHOWN]) + (", …" if len(lines) > LINES_SHOWN else "")
        err(
            f"warning: {shown}:{where}: ${{…}} is passed on as it is written; --expand replaces it by the variable's "
            "value"
        )


def _all_said(shown: str, mistakes: Sequence[ServiceMistake], marks: Mapping[Place, Mark]) -> str:
    placed = sorted(((_nearest(marks, mistake.mark), str(mistake)) for mistake in mistakes), key=lambda one: one[0])
    said = [f"{_placed(shown, mark)}: {reason}" for mark, reason in placed]
    if len(said) == 1:
        return f"cannot use service file {said[0]}"
    more = " or more" if len(said) == MOST_MISTAKES else ""
    return "\n  ".join([f"cannot use service file {shown}: it has {len(said)}{more} mistakes", *said])


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


def marks_of(parsed: Parsed, text: str, suffix: str) -> Mapping[Place, Mark]:
    """Where the values of a parsed text stand."""
    if parsed.marks:
        return parsed.marks
    # Imported here: only a mistake has to be located.
    from syntra.cli.service_places import json_marks, toml_marks

    return {".json": json_marks, ".toml": toml_marks}[suffix](text) if suffix in (".json", ".toml") else {}


def _nearest(marks: Mapping[Place, Mark], place: Place) -> Mark:
    """The mark of the value, or of its nearest parent; (0, 0) when there is none."""
    for length in range(len(place), -1, -1):
        if place[:length] in marks:
            return marks[place[:length]]
    return (0, 0)


def _placed(shown: str, mark: Mark | None) -> str:
    return f"{shown}:{mark[0]}:{mark[1]}" if mark and mark[0] else shown
