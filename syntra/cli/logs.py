"""`logs`: a service's output, from the past and as it comes."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta

from syntra.cli.agent_client import subscribe
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, count, socket_path
from syntra.cli.reading import Json, rows, text
from syntra.cli.services import find
from syntra.cli.terminal import out, out_json, printable

IDLE_SECS = 60.0
"""Longest silence while past lines are read; following is silent for as long as the service is."""

_AGO = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, -f, --tail, --since, -t, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument("-f", "--follow", action="store_true", help="stream new output")
    parser.add_argument("--tail", type=count, default=100, metavar="N", help="number of recent lines (default 100)")
    parser.add_argument("--since", type=since, metavar="TIME", help="15m, 2h, 1d, or 2024-05-01T12:00:00Z")
    parser.add_argument("-t", "--timestamps", action="store_true", help="show when each line was written")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print lines until the agent says that it is done."""
    socket = socket_path(args)
    payload = {"service_id": find(socket, args.service), "follow": args.follow, "tail": args.tail}
    if args.since is not None:
        payload["since"] = args.since
    for batch in subscribe(socket, payload, idle=None if args.follow else IDLE_SECS):
        for line in rows(batch, "logs"):
            if args.json:
                out_json(line)
            else:
                out(_shown(line, timestamps=args.timestamps))
    return ExitCode.OK


def since(given: str) -> str:
    """A time as the contract has it (RFC 3339), from one like it or from an age."""
    ago = _AGO.fullmatch(given)
    try:
        if ago:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            moment = datetime.fromisoformat(given)
        # A time without zone is the reader's own, as `date` prints it.
        return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is not a time (15m, 2h, 1d, 2024-05-01T12:00:00Z)") from None


def _shown(line: Json, *, timestamps: bool) -> str:
    message = printable(text(line, "message", ""), keep="\t")
    return f"{printable(text(line, 'timestamp'))} {message}" if timestamps else message
