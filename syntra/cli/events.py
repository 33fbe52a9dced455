"""`events`: what happened on this server, from the agent's journal."""

from __future__ import annotations

import argparse
import sys
import time

from syntra.cli.agent_client import ask
from syntra.cli.as_typed import as_typed
from syntra.cli.exit_codes import ExitCode
from syntra.cli.failure import cleaned
from syntra.cli.look import DIM, RED, Look, add_color, look_of
from syntra.cli.options import add_json, count, socket_path
from syntra.cli.reading import Json, number, rows, text
from syntra.cli.services import find
from syntra.cli.since import since
from syntra.cli.terminal import out, out_json, printable

POLL_SECS = 1.0
MOST = 1000
"""The agent answers with so many events at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, -f, --tail, --since, --color, --json."""
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="only of this one: name, project/name or id")
    parser.add_argument("-f", "--follow", action="store_true", help="continue with new events as they happen")
    parser.add_argument(
        "--tail", type=count, default=50, metavar="N", help=f"number of recent events (default 50, at most {MOST})"
    )
    parser.add_argument("--since", type=since, metavar="TIME", help="only since then: 15m, 2h, 1d, or a time")
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the newest events, oldest first; with -f until interrupted."""
    socket = socket_path(args)
    payload: dict[str, object] = {"service_id": find(socket, args.service)} if args.service is not None else {}
    look = look_of(sys.stdout, args.color)
    asked = {**payload, "limit": max(1, min(args.tail, MOST)), **({"since": args.since} if args.since else {})}
    last = 0
    while True:
        found = rows(ask(socket, "list_events", asked), "events")
        for event in found:
            last = max(last, int(number(event, "seq") or 0))
            if args.tail or "after" in asked:
                out_json(event) if args.json else out(_line(event, look))
        if not args.follow:
            return ExitCode.OK
        asked = {**payload, "limit": MOST, "after": last}
        time.sleep(POLL_SECS)


def _line(event: Json, look: Look) -> str:
    name = text(event, "service_name", "")
    words = f"{text(event, 'kind'):10} {f'{name}: ' if name else ''}{as_typed(text(event, 'text'))}"
    shown = cleaned(words) if "\n" in words or "<" in words else printable(words)
    moment = look.paint(printable(text(event, "at")), DIM)
    return f"{moment} {look.paint(shown, RED) if event.get('is_bad') is True else shown}"
