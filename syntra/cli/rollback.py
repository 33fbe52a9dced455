"""`rollback`: return to the previous deployment, or to a given one."""

from __future__ import annotations

import argparse

from syntra.cli.follow import IDLE_SECS, follow
from syntra.cli.look import add_color
from syntra.cli.options import add_json, socket_path
from syntra.cli.services import find


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, DEPLOYMENT, --color, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument("deployment", metavar="DEPLOYMENT", nargs="?", help="deployment id (default: the previous one)")
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Roll back and follow the operation to its end."""
    socket = socket_path(args)
    payload = {"service_id": find(socket, args.service)}
    if args.deployment:
        payload["target_deployment_id"] = args.deployment
    return follow(
        socket, "rollback", payload, subject=args.service, as_json=args.json, idle=IDLE_SECS, color=args.color
    )
