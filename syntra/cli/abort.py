"""`abort`: end a canary and return to the previous version."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.as_typed import to_type
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.services import find
from syntra.cli.terminal import out, out_json, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print that the command was accepted; the deployment's own report tells the result."""
    socket = socket_path(args)
    data = ask(socket, "abort", {"service_id": find(socket, args.service)})
    if args.json:
        out_json(data)
    else:
        sentence = f"the canary of {args.service} ends; what served before gets every request; see `syntra-agent ps`"
        out(printable(to_type(sentence)))
    return ExitCode.OK
