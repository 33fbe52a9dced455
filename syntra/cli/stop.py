"""`stop`: stop every container of a service; --remove also removes the containers."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.completion import report
from syntra.cli.options import MAX_SECONDS, add_json, seconds, socket_path
from syntra.cli.services import find

REPLICAS_SECS = 300.0
"""Longest time beyond the grace for withdrawing, draining and stopping the replicas."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --remove, --timeout, --json."""
    add_target(parser)
    parser.add_argument(
        "--remove", action="store_true", help="also delete the service and its containers; volumes stay"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --timeout, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="seconds to wait before SIGKILL (default: the service's stop_grace_seconds, else 10)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Stop and wait for the agent's answer."""
    socket = socket_path(args)
    service_id = find(socket, args.service)
    payload: dict[str, object] = {"service_id": service_id, "remove_container": args.remove}
    if args.timeout is not None:
        payload["timeout_seconds"] = args.timeout
    # Without one it is the service's own, which the agent knows.
    grace = MAX_SECONDS if args.timeout is None else args.timeout
    data = ask(socket, "stop", payload, timeout=grace + REPLICAS_SECS)
    return report(
        data, kind="stop", done="removed" if args.remove else "stopped", subject=args.service, as_json=args.json
    )
