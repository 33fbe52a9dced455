"""`scale`: set the number of a service's replicas."""

from __future__ import annotations

import argparse

from syntra.cli.follow import IDLE_SECS, follow
from syntra.cli.look import add_color
from syntra.cli.options import add_json, count, socket_path
from syntra.cli.person import person
from syntra.cli.services import find


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, N, --immediate, --color, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument("replicas", metavar="N", type=count, help="how many replicas to run")
    parser.add_argument(
        "--immediate", action="store_true", help="start all new replicas at once (default: one after another)"
    )
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Scale and follow the operation to its end."""
    socket = socket_path(args)
    payload = {
        "service_id": find(socket, args.service),
        "replicas": args.replicas,
        "strategy": "immediate" if args.immediate else "rolling",
        "requested_by": person(),
    }
    return follow(socket, "scale", payload, subject=args.service, as_json=args.json, idle=IDLE_SECS, color=args.color)
