"""`pause`: the agent leaves one service alone until `resume`."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.as_typed import to_type
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.person import person
from syntra.cli.services import find
from syntra.cli.terminal import out, out_json, printable

REASON_MAX = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --reason, --json."""
    parser.epilog = (
        "The agent restores and restarts no replica of a paused service, and refuses to deploy, scale or roll it back. "
        "The service continues to run; stop, restart and exec work. A restart of the agent keeps the pause."
    )
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument("--reason", metavar="TEXT", type=_reason, default="", help="why, for ps, status and events")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print that the service is paused."""
    socket = socket_path(args)
    payload = {"service_id": find(socket, args.service), "reason": args.reason, "requested_by": person()}
    data = ask(socket, "pause", payload)
    if args.json:
        out_json(data)
    elif data.get("changed") is False:
        out(printable(f"{args.service} was paused already"))
    else:
        out(printable(to_type(f"paused {args.service}; end it with `syntra-agent resume {args.service}`")))
    return ExitCode.OK


def _reason(given: str) -> str:
    if len(given) > REASON_MAX:
        raise argparse.ArgumentTypeError(f"is longer than {REASON_MAX} characters")
    return given
