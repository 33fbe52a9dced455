"""`up`: start a stopped service again, as it was: the same deployment and number of replicas."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.completion import report
from syntra.cli.exit_codes import CliError, CommandFailed, ExitCode
from syntra.cli.follow import IDLE_SECS, follow
from syntra.cli.look import add_color
from syntra.cli.options import add_json, socket_path
from syntra.cli.person import person
from syntra.cli.ps import FAILED
from syntra.cli.reading import Json, number, rows, section, text
from syntra.cli.services import chosen
from syntra.cli.terminal import out, out_json, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --color, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Start the service and follow the operation to its end."""
    socket = socket_path(args)
    [service] = chosen(rows(ask(socket, "list_services", {}), "services"), args.service)
    if text(service, "status") != "stopped":
        return _is_up(service, args.service, as_json=args.json)
    replicas = number(service, "configured_replicas")
    if not replicas:
        raise CliError(
            f"cannot start {args.service}: it is scaled to 0; run `syntra-agent scale {args.service} 1`",
            ExitCode.USAGE,
        )
    service_id = text(service, "service_id")
    payload = {"service_id": service_id, "replicas": int(replicas), "strategy": "rolling", "requested_by": person()}
    try:
        return follow(
            socket, "scale", payload, subject=args.service, as_json=args.json, idle=IDLE_SECS, color=args.color
        )
    except CommandFailed as refused:
        if refused.code != "INVALID_PAYLOAD":
            raise
    # The cluster decides the number of replicas of this service, so it cannot be scaled; a restart starts it.
    data = ask(socket, "restart", {"service_id": service_id}, timeout=IDLE_SECS)
    return report(data, kind="start", done="started", subject=args.service, as_json=args.json)


def _is_up(service: Json, given: str, *, as_json: bool) -> ExitCode:
    if text(service, "status") == FAILED:
        raise CliError(
            f"cannot start {given}: its deployments failed; see `syntra-agent status {given}`, then deploy it again"
        )
    if as_json:
        out_json({"service_id": service.get("service_id"), "changed": False})
    else:
        replicas = section(service, "replicas")
        out(printable(f"{given} is up already, {text(replicas, 'running')}/{text(replicas, 'desired')} replicas"))
    return ExitCode.OK
