"""`rollback`: return to the previous deployment, or to a given one."""

from __future__ import annotations

import argparse

from syntra.cli.agent_client import ask
from syntra.cli.confirm import can_ask, confirmed
from syntra.cli.deployments import ago
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.follow import IDLE_SECS, follow
from syntra.cli.look import add_color
from syntra.cli.options import add_json, socket_path
from syntra.cli.person import person
from syntra.cli.reading import Json, rows, text
from syntra.cli.services import find
from syntra.cli.terminal import out, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, DEPLOYMENT or --to, --yes, --color, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("deployment", metavar="DEPLOYMENT", nargs="?", help="the same as --to")
    target.add_argument(
        "--to", metavar="ID", help="deployment id (default: the previous one); see `syntra-agent deployments SERVICE`"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask in a terminal")
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Say from which version to which, ask in a terminal, roll back and follow the operation to its end."""
    socket = socket_path(args)
    payload = {"service_id": find(socket, args.service)}
    data = ask(socket, "list_deployments", payload)
    known = rows(data, "deployments")
    target = args.to or args.deployment or text(data, "rollback_to", "")
    current = next((one for one in known if one.get("is_current") is True), {})
    # A deployment may have been current several times; its last turn is the first in the list.
    wanted = next((one for one in known if target and text(one, "deployment_id") == target), {})
    refuse_same(args.service, current, wanted)
    if wanted and not args.json:
        out(printable(f"{args.service}: from {_version(current)} to {_version(wanted)}"))
        if not args.yes and can_ask() and not confirmed(f"roll back {printable(args.service)}?"):
            return ExitCode.OK
    if args.to or args.deployment:
        payload["target_deployment_id"] = target
    return follow(
        socket,
        "rollback",
        {**payload, "requested_by": person()},
        subject=args.service,
        as_json=args.json,
        idle=IDLE_SECS,
        color=args.color,
    )


def refuse_same(name: str, current: Json, wanted: Json) -> None:
    """Raise CliError when both deployments are, or run, the same version."""
    if not current or not wanted:
        return
    see = f"choose another one with --to; see `syntra-agent deployments {name}`"
    if text(current, "deployment_id") == text(wanted, "deployment_id"):
        raise CliError(f"cannot roll back {name}: it runs this deployment; {see}")
    if current.get("version") is not None and current.get("version") == wanted.get("version"):
        raise CliError(f"cannot roll back {name}: that deployment is the same version as the one that runs; {see}")


def _version(one: Json) -> str:
    return f"{text(one, 'image')} ({text(one, 'deployment_id')}, {ago(one)})" if one else "nothing"
