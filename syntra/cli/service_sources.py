"""The service files that a command names: files, folders, or standard input; and the variables to expand in them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from syntra.cli.as_typed import typed
from syntra.cli.env_file import EnvFileMistake, read_env_file
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import path
from syntra.cli.service_file import STDIN, read_service
from syntra.utils.frozen import frozen

FILES_MAX = 200
SUFFIXES = (".yaml", ".yml", ".toml", ".json")


@frozen
class Source:
    """A service file that was read, and its `deploy` payload."""

    file: Path
    payload: Mapping[str, object]

    @property
    def name(self) -> str:
        """The service's name."""
        return str(self.payload["service_name"])


def add_files(parser: argparse.ArgumentParser) -> None:
    """FILE…, --expand, --env-file."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=path,
        help="service files (.yaml, .toml or .json) or folders of them; `-` reads YAML or JSON from stdin",
    )
    parser.add_argument(
        "--expand",
        action="store_true",
        help="replace ${VAR} and ${VAR:-default} in values by the environment's variables, as Compose does",
    )
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        type=path,
        action="append",
        default=[],
        help="with --expand: variables in the format of `docker run --env-file`; the environment overrides them",
    )


def read_sources(args: argparse.Namespace) -> list[Source]:
    """The services, ordered by file name. Raises CliError with the mistakes of all files; then none is used."""
    files = service_files(args.files)
    variables = _variables(args)
    found: list[Source] = []
    refused: list[CliError] = []
    for file in files:
        try:
            found.append(Source(file=file, payload=read_service(file, variables=variables)))
        except CliError as mistake:
            refused.append(mistake)
    if refused:
        said = "\n".join(map(str, refused))
        unused = f"\nnothing was done with the other {len(found)} files" if found else ""
        raise CliError(said + unused, refused[0].exit_code)
    _refuse_same(found)
    for source in found:
        typed(str(source.payload["service_id"]), source.name)
    return found


def service_files(given: Sequence[Path]) -> list[Path]:
    """The files that were given and those in the given folders, ordered by name. Raises CliError."""
    if any(str(one) == STDIN for one in given):
        if len(given) > 1:
            raise CliError("cannot read standard input beside other files; give `-` alone", ExitCode.USAGE)
        return [*given]
    found: dict[Path, Path] = {}
    for one in given:
        for file in _files_of(one):
            found.setdefault(file.resolve(), file)
    if len(found) > FILES_MAX:
        raise CliError(
            f"cannot read {len(found)} service files: the limit is {FILES_MAX}; give fewer at a time", ExitCode.USAGE
        )
    return sorted(found.values(), key=lambda file: (file.name, str(file)))


def _files_of(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    try:
        inside = [file for file in given.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
    except OSError as exc:
        raise CliError(f"cannot read folder {given}: {exc.strerror}; check the path", ExitCode.USAGE) from exc
    # Hidden files are those of editors.
    found = [file for file in inside if not file.name.startswith(".")]
    if not found:
        raise CliError(
            f"cannot read folder {given}: it has no file named .yaml, .yml, .toml or .json; check the path",
            ExitCode.USAGE,
        )
    return found


def _refuse_same(sources: Sequence[Source]) -> None:
    first: dict[object, Path] = {}
    for source in sources:
        earlier = first.setdefault(source.payload["service_id"], source.file)
        if earlier is not source.file:
            raise CliError(
                f"cannot use service file {source.file}: {earlier} is about the same service, "
                f"{source.payload['project_name']}/{source.name}; change one of the names",
                ExitCode.USAGE,
            )


def _variables(args: argparse.Namespace) -> Mapping[str, str] | None:
    if not args.expand:
        if args.env_file:
            raise CliError("cannot use --env-file: nothing is expanded; add --expand", ExitCode.USAGE)
        return None
    found: dict[str, str] = {}
    for file in args.env_file:
        try:
            found |= read_env_file(file, os.environ)
        except EnvFileMistake as exc:
            raise CliError(f"cannot use --env-file: {exc}", ExitCode.USAGE) from exc
    return {**found, **os.environ}
