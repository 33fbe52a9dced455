"""`exec`: a command in one container of a service; its output and exit code become this process's own."""

from __future__ import annotations

import argparse
import re
import sys

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import add_json, seconds, socket_path
from syntra.cli.reading import text
from syntra.cli.services import find
from syntra.cli.terminal import err, out_json, printable, write

_VARIABLE = re.compile(r"[^=\s]+=.*", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE -- COMMAND…, --workdir, --env, --timeout, --json."""
    parser.usage = "%(prog)s [options] SERVICE -- COMMAND [ARGUMENT …]"
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    # Taken only to be answered with what was meant.
    parser.add_argument("misplaced", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--workdir", metavar="PATH", help="working directory in the container")
    parser.add_argument(
        "--env", metavar="NAME=VALUE", type=_variable, action="append", default=[], help="set an environment variable"
    )
    parser.add_argument("--timeout", type=seconds, default=30.0, metavar="SECONDS", help="command timeout (default 30)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    command: list[str] = getattr(args, "command", [])
    if args.misplaced:
        example = printable(" ".join([args.service, "--", *args.misplaced])[:80])
        raise CliError(f"cannot exec: put the command after --; try `exec {example}`", ExitCode.USAGE)
    if not command:
        raise CliError("cannot exec: no command; put it after --, as in `exec SERVICE -- ls /`", ExitCode.USAGE)
    socket = socket_path(args)
    payload = {
        "service_id": find(socket, args.service),
        "command": command,
        "env": dict(variable.split("=", 1) for variable in args.env),
        "timeout_seconds": args.timeout,
        "interactive": False,
    }
    if args.workdir:
        payload["working_dir"] = args.workdir
    data = ask(socket, "exec", payload, timeout=args.timeout + 10)
    exit_code = data.get("exit_code")
    if isinstance(exit_code, bool) or not isinstance(exit_code, int):
        raise CliError("cannot tell how the command ended: the agent sent no exit code", ExitCode.UNAVAILABLE)
    if args.json:
        out_json(data)
        return exit_code & 0xFF
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        output = text(data, name, "")
        # A program reading the pipe wants the bytes; a terminal would obey them.
        write(stream, printable(output, keep="\n\t") if stream.isatty() else output)
    if data.get("truncated") is True:
        shown = sum(len(text(data, name, "").encode()) for name in ("stdout", "stderr"))
        err(f"only the first {shown // 1024} KiB of the output are shown; have the command write a file to see all")
    return exit_code & 0xFF


def _variable(given: str) -> str:
    if not _VARIABLE.fullmatch(given):
        raise argparse.ArgumentTypeError("is not NAME=VALUE")
    return given
