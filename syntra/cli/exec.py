"""`exec`: a command in one container of a service; its streams and exit code become this process's own."""

from __future__ import annotations

import argparse
import base64
import binascii
import os
import re
import sys
from pathlib import Path

from syntra.cli.agent_client import AgentConnection, await_response
from syntra.cli.attached import Attached
from syntra.cli.exit_codes import CliError, CommandFailed, ExitCode
from syntra.cli.options import add_json, count, socket_path
from syntra.cli.raw_terminal import size_of_terminal
from syntra.cli.reading import Json, text
from syntra.cli.services import find
from syntra.cli.terminal import err, out_json

ACCEPT_SECS = 60.0
"""Longest wait for an attached command to start: the engine is asked several times for it."""
BOUNDED_SECS = 30.0
MAX_SECS = 7 * 24 * 3600.0

_VARIABLE = re.compile(r"[^=\s]+=.*", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, -i, -t, -w, -e, --replica, --timeout, --json; the command is split off before."""
    parser.usage = "%(prog)s [options] SERVICE [--] COMMAND [ARGUMENT …]"
    parser.epilog = (
        "Put options before SERVICE; everything after it is the command. The command gets standard input if that is a "
        "pipe or a file, or with -i. Inside a shell loop that reads standard input, add </dev/null."
    )
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument("-i", "--interactive", action="store_true", help="pass standard input, also from a terminal")
    parser.add_argument("-t", "--tty", action="store_true", help="allocate a terminal (-it for a shell)")
    parser.add_argument("-w", "--workdir", metavar="PATH", help="working directory in the container")
    parser.add_argument(
        *("-e", "--env"),
        metavar="NAME=VALUE",
        type=_variable,
        action="append",
        default=[],
        help="set an environment variable; can be repeated",
    )
    parser.add_argument("--replica", type=_replica, metavar="N", help="number of the replica (default: the newest)")
    parser.add_argument(
        "--timeout",
        type=_timeout,
        metavar="SECONDS",
        help="kill the command after this time (default: none; with --json 30)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    command: list[str] = getattr(args, "command", [])
    if not command:
        raise CliError(
            "cannot run the command: there is none; put it after SERVICE, as in `exec SERVICE ls /`", ExitCode.USAGE
        )
    has_terminal = _has_terminal()
    if args.tty and args.json:
        raise CliError(
            "cannot use --tty with --json: --json prints the output at the end; omit one of them", ExitCode.USAGE
        )
    if args.tty and not has_terminal:
        raise CliError("cannot use --tty: standard input is not a terminal; omit -t", ExitCode.USAGE)
    socket = socket_path(args)
    payload: dict[str, object] = {
        "service_id": find(socket, args.service),
        "command": command,
        "env": dict(variable.split("=", 1) for variable in args.env),
    }
    if args.workdir:
        payload["working_dir"] = args.workdir
    if args.replica is not None:
        payload["replica"] = args.replica
    if args.json:
        return _bounded(socket, {**payload, "timeout_seconds": args.timeout or BOUNDED_SECS})
    if args.timeout is not None:
        payload["timeout_seconds"] = args.timeout
    return _attached(socket, payload, stdin=args.interactive or _has_input(), tty=args.tty)


def _attached(socket: Path, payload: dict[str, object], *, stdin: bool, tty: bool) -> int:
    payload |= {"stream": True, "stdin": stdin, "tty": tty}
    if tty:
        payload["rows"], payload["columns"] = size_of_terminal(0)
    with AgentConnection.open(socket) as connection:
        accepted = await_response(connection, connection.send("exec", payload), timeout=ACCEPT_SECS)
        if accepted.get("attached") is not True:
            raise CliError("cannot exec: the agent does not know attached commands; update it", ExitCode.UNAVAILABLE)
        end = Attached(connection, stdin=stdin, tty=tty).run()
    return _exit_code(end)


def _bounded(socket: Path, payload: dict[str, object]) -> int:
    timeout = payload["timeout_seconds"]
    assert isinstance(timeout, float), "cannot happen because the option is a number"
    with AgentConnection.open(socket) as connection:
        try:
            data = await_response(connection, connection.send("exec", payload), timeout=timeout + 10)
        except CommandFailed as failed:
            if failed.data:
                # The output up to the timeout is a result, too.
                out_json({**failed.data, "timed_out": True})
            raise CommandFailed(failed.code, failed.message) from None
    out_json(data)
    if data.get("truncated") is True:
        shown = sum(_size(data, name) for name in ("stdout", "stderr"))
        err(f"only the first {shown // 1024} KiB of the output are shown; leave out --json to see all")
    return _exit_code(data)


def _exit_code(data: Json) -> int:
    exit_code = data.get("exit_code")
    if isinstance(exit_code, bool) or not isinstance(exit_code, int):
        raise CliError("cannot tell how the command ended: the agent sent no exit code", ExitCode.UNAVAILABLE)
    return exit_code & 0xFF


def _size(data: Json, name: str) -> int:
    said = text(data, name, "")
    try:
        return len(base64.b64decode(said)) if data.get("encoding") == "base64" else len(said.encode())
    except binascii.Error:
        return len(said)


def _has_terminal() -> bool:
    return sys.stdin is not None and os.isatty(0)


def _has_input() -> bool:
    """Whether standard input is a pipe or a file; a terminal is read only when asked to, and it may be closed."""
    return sys.stdin is not None and not os.isatty(0)


def _variable(given: str) -> str:
    if not _VARIABLE.fullmatch(given):
        raise argparse.ArgumentTypeError("is not NAME=VALUE")
    return given


def _replica(given: str) -> int:
    if (number := count(given)) < 1:
        raise argparse.ArgumentTypeError("counts from 1")
    return number


def _timeout(given: str) -> float:
    try:
        value = float(given)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is not a number of seconds") from None
    if not 0.1 <= value <= MAX_SECS:
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is out of range (0.1–{MAX_SECS:.0f} seconds)")
    return value
