"""`config check` and `config show`: validate the configuration, and print the effective one."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator

from syntra.agent.config.load import Loaded, load
from syntra.agent.config.schema import Value
from syntra.agent.config.settings import BY_DOTTED, KEYS, flatten
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json
from syntra.cli.terminal import err, out, out_json, printable

MASK = "********"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """check | show, --json."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        choices=("check", "show"),
        help="check: validate the configuration; show: print every value and where it comes from",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Load as `start` would; an error gives exit code 78."""
    command_line = {"logging.level": args.log_level} if args.log_level else {}
    if args.socket is not None:
        command_line["socket"] = str(args.socket.absolute())
    loaded = load(args.config, environ=os.environ, command_line=command_line)
    if args.json:
        out_json(_as_json(loaded, with_values=args.action == "show"))
        return ExitCode.OK
    if args.action == "check":
        out(f"configuration is valid: {_source(loaded)}")
    else:
        out(f"# {_source(loaded)}")
        for line in _as_toml(loaded):
            out(line)
    for warning in loaded.warnings:
        err(f"warning: {warning}")
    return ExitCode.OK


def _source(loaded: Loaded) -> str:
    path = printable(str(loaded.path))
    return path if loaded.found else f"no file at {path}, so defaults and the environment apply"


def masked(loaded: Loaded) -> dict[str, Value | None]:
    """Every value by dotted key; secrets are masked, whatever their length."""
    values = flatten(loaded.settings)
    return {name: MASK if BY_DOTTED[name].secret and value is not None else value for name, value in values.items()}


def _as_json(loaded: Loaded, *, with_values: bool) -> dict[str, object]:
    described: dict[str, object] = {
        "path": str(loaded.path),
        "found": loaded.found,
        "valid": True,
        "warnings": list(loaded.warnings),
    }
    if with_values:
        described |= {"settings": masked(loaded), "origins": dict(loaded.origins)}
    return described


def _as_toml(loaded: Loaded) -> Iterator[str]:
    """TOML that can be loaded again (except masked secrets), each value with its origin; absent keys as comments."""
    values = masked(loaded)
    section = ""
    for key in KEYS:
        if key.section != section:
            section = key.section
            yield ""
            yield f"[{section}]"
        value = values[key.dotted]
        # JSON strings and numbers are valid TOML, except for escaped surrogate pairs.
        shown = printable(json.dumps(value, ensure_ascii=False))
        written = f"# {key.name} =" if value is None else f"{key.name} = {shown}"
        yield f"{written:50} # {loaded.origins[key.dotted]}"
