"""`ps`: the services on this server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from syntra.cli import table
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import Json, rows, section, text, texts
from syntra.cli.terminal import out_json

SHOWN_DOMAINS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--json."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print."""
    data = ask(socket_path(args), "list_services", {})
    if args.json:
        out_json(data)
    else:
        show_services(rows(data, "services"))
    return ExitCode.OK


def show_services(services: Sequence[Json]) -> None:
    """One line per service."""
    table.show(
        ("service", "project", "image", "status", "health", "replicas", "restarts", "deployment", "domains"),
        [
            (
                text(service, "service_name", text(service, "service_id")),
                text(service, "project_name"),
                text(service, "image"),
                _status(service),
                text(service, "health"),
                f"{text(section(service, 'replicas'), 'running')}/{text(section(service, 'replicas'), 'desired')}",
                text(service, "restarts"),
                text(service, "deployment_id"),
                _domains(texts(service, "domains")),
            )
            for service in services
        ],
        empty="no services",
    )


def _status(service: Json) -> str:
    detail = text(service, "status_detail", "")
    return text(service, "status") + (f" ({detail})" if detail else "")


def _domains(domains: Sequence[str]) -> str:
    # --json shows all domains; ten in one row would push the other columns off the screen.
    more = f" +{len(domains) - SHOWN_DOMAINS}" if len(domains) > SHOWN_DOMAINS else ""
    return (" ".join(domains[:SHOWN_DOMAINS]) + more) or "-"
