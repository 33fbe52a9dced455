"""`uninstall`: remove the agent from the machine; its services keep running unless --stop-services is given."""

from __future__ import annotations

import argparse
from pathlib import Path

from syntra.agent.config.load import load_socket
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.install import require_plain_options, require_root, show_plan
from syntra.cli.kubernetes_options import add_place
from syntra.cli.options import MAX_SECONDS
from syntra.cli.reading import rows, text
from syntra.cli.terminal import out, printable
from syntra.install import places
from syntra.install.machine import observe
from syntra.install.perform import Performer
from syntra.install.removal import removal_plan
from syntra.install.service_manager import find_manager, manager_of

_REPLICAS_SECS = 300.0
_PROXY_SECS = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--purge, --stop-services, --dry-run."""
    parser.add_argument("--purge", action="store_true", help="also remove configuration, token, ids and journal")
    parser.add_argument(
        "--stop-services",
        action="store_true",
        help="first stop and remove all services and the proxy; volumes stay (default: they keep running)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    add_place(parser)


def run(args: argparse.Namespace) -> int:
    """Observe, print the plan, carry it out."""
    if args.kubernetes:
        from syntra.cli import kubernetes_install

        return kubernetes_install.uninstall(args)
    require_plain_options(args, "uninstall")
    kind, version = find_manager()
    manager = manager_of(kind)
    seen = observe(manager, kind, systemd_version=version)
    plan = removal_plan(seen, purge=args.purge)
    show_plan(plan, "removing syntra-agent", kind)
    if args.stop_services and plan.actions:
        out("  before that, stop and remove all services and the proxy")
    if args.dry_run or not plan.actions:
        return ExitCode.OK
    require_root("uninstall")
    if args.stop_services:
        _stop_services(load_socket(Path(places.CONFIGURATION) if seen.configured is not None else None, environ={}))
    Performer(manager, program=Path(places.PROGRAM)).uninstall(plan.actions)
    out("removed" if args.stop_services else "removed; the services keep running, without an agent to restart them")
    return ExitCode.OK


def _stop_services(socket: Path) -> None:
    """Through the running agent, which drains and removes in order. Raises CliError; then nothing is uninstalled."""
    try:
        for service in rows(ask(socket, "list_services", {}), "services"):
            name = text(service, "service_id")
            out(f"stopping {printable(text(service, 'service_name', name))}")
            payload = {"service_id": name, "remove_container": True}
            ask(socket, "stop", payload, timeout=MAX_SECONDS + _REPLICAS_SECS)
        ask(socket, "proxy_down", {}, timeout=_PROXY_SECS)
    except CliError as failed:
        raise CliError(f"cannot stop the services, so nothing is uninstalled: {failed}", failed.exit_code) from failed
