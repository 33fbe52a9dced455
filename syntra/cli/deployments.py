"""`deployments SERVICE`: what ran, when, which image, who asked, how it ended and how long it took."""

from __future__ import annotations

import argparse

from syntra.cli import table
from syntra.cli.agent_client import ask
from syntra.cli.as_typed import as_typed
from syntra.cli.exit_codes import ExitCode
from syntra.cli.failure import cleaned
from syntra.cli.look import seconds
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import UNKNOWN, Json, number, rows, text
from syntra.cli.services import find
from syntra.cli.terminal import out, out_json

_OUTCOMES = {"running": "succeeded", "rolled_back": "failed, rolled back"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, -v, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument("-v", "--verbose", action="store_true", help="also show why deployments failed")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print, newest first."""
    socket = socket_path(args)
    data = ask(socket, "list_deployments", {"service_id": find(socket, args.service)})
    if args.json:
        out_json(data)
        return ExitCode.OK
    found = rows(data, "deployments")
    table.show(
        ("id", "when", "kind", "image", "asked by", "ended", "took"), [_row(one) for one in found], empty="none yet"
    )
    if args.verbose:
        for one in found:
            if reason := text(one, "reason", ""):
                out(f"{text(one, 'deployment_id')}: {cleaned(as_typed(reason))}")
    return ExitCode.OK


def _row(one: Json) -> tuple[str, ...]:
    took = number(one, "took_seconds")
    ended = _OUTCOMES.get(text(one, "outcome"), text(one, "outcome"))
    return (
        text(one, "deployment_id") + (" *" if one.get("is_current") is True else ""),
        ago(one),
        text(one, "kind"),
        text(one, "image"),
        text(one, "asked_by"),
        ended,
        seconds(took) if took is not None else UNKNOWN,
    )


def ago(one: Json) -> str:
    """`5m 3s ago`."""
    secs = number(one, "seconds_ago")
    return f"{table.duration(secs)} ago" if secs is not None else UNKNOWN
