"""`resume`: ends a pause."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.person import person
from syntra.cli.services import find
from syntra.cli.terminal import out, out_json, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print that the service is resumed."""
    socket = socket_path(args)
    data = ask(socket, "resume", {"service_id": find(socket, args.service), "requested_by": person()})
    if args.json:
        out_json(data)
    else:
        done = "resumed" if data.get("changed") is True else "nothing to resume:"
        out(printable(f"{done} {args.service}" + ("" if done == "resumed" else " is not paused")))
    return ExitCode.OK
