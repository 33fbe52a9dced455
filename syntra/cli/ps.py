"""`ps`: the services on this server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from syntra.cli import table
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import Json, number, rows, section, text, texts
from syntra.cli.terminal import out_json

SHOWN_DOMAINS = 2
FAILED = "failed"
"""The status of a service none of whose deployments has succeeded."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """-a, --json."""
    parser.add_argument("-a", "--all", action="store_true", help="also show failed deployments, which do not run")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print."""
    data = ask(socket_path(args), "list_services", {})
    if args.json:
        out_json(data)
    else:
        show_services(rows(data, "services"), with_failed=args.all)
    return ExitCode.OK


def show_services(services: Sequence[Json], *, with_failed: bool) -> None:
    """One line per service, and one for its failed deployment."""
    lines: list[tuple[str, ...]] = []
    for service in services:
        lines += [] if text(service, "status") == FAILED else [_line(service)]
        lines += [_failed(service)] if with_failed and section(service, "failed") else []
    table.show(
        ("service", "project", "image", "status", "health", "replicas", "restarts", "deployment", "domains"),
        lines,
        empty="no services",
    )


def exit_word(failed: Json) -> str:
    """How the container of a failed deployment ended; empty when it never ran."""
    code = number(failed, "exit_code")
    return "" if code is None or not failed.get("started_at") else f"exit {code:g}"


def _line(service: Json) -> tuple[str, ...]:
    return (
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


def _failed(service: Json) -> tuple[str, ...]:
    failed = section(service, "failed")
    word = exit_word(failed)
    return (
        text(service, "service_name", text(service, "service_id")),
        text(service, "project_name"),
        text(failed, "image"),
        FAILED + (f" ({word})" if word else ""),
        "-",
        "-",
        "-",
        text(failed, "deployment_id"),
        "-",
    )


def _status(service: Json) -> str:
    detail = text(service, "status_detail", "")
    return text(service, "status") + (f" ({detail})" if detail else "")


def _domains(domains: Sequence[str]) -> str:
    # --json shows all domains; ten in one row would push the other columns off the screen.
    more = f" +{len(domains) - SHOWN_DOMAINS}" if len(domains) > SHOWN_DOMAINS else ""
    return (" ".join(domains[:SHOWN_DOMAINS]) + more) or "-"
