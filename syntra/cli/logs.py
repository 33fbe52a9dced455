"""`logs`: a service's output, from the past and as it comes."""

from __future__ import annotations

import argparse
import os
import sys

from syntra.cli.agent_client import subscribe
from syntra.cli.exit_codes import ExitCode
from syntra.cli.options import add_json, count, socket_path
from syntra.cli.reading import Json, rows, text
from syntra.cli.services import find
from syntra.cli.since import since
from syntra.cli.terminal import err, out, out_json, printable

IDLE_SECS = 60.0
"""Longest silence while past lines are read; following is silent for as long as the service is."""

LINE_KIB = 64
"""What the agent keeps of a line."""

_COLOURS = (36, 33, 32, 35, 34, 31)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, --deployment, -f, --tail, --since, -t, --json."""
    parser.add_argument("service", metavar="SERVICE", help="name, project/name or id")
    parser.add_argument("--deployment", metavar="ID", help="only of this deployment; a failed one is kept for a day")
    parser.add_argument("-f", "--follow", action="store_true", help="continue with new lines as they are written")
    parser.add_argument("--tail", type=count, default=100, metavar="N", help="number of recent lines (default 100)")
    parser.add_argument(
        "--since", type=since, metavar="TIME", help="only lines since then: 15m, 2h, 1d, or 2024-05-01T12:00:00Z"
    )
    parser.add_argument("-t", "--timestamps", action="store_true", help="show the time of each line")
    parser.add_argument("--no-log-prefix", action="store_true", help="do not show the replica of each line")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print lines until the agent says that it is done."""
    socket = socket_path(args)
    payload = {"service_id": find(socket, args.service), "follow": args.follow, "tail": args.tail}
    if args.since is not None:
        payload["since"] = args.since
    if args.deployment is not None:
        payload["deployment_id"] = args.deployment
    prefixes = _Prefixes(args.service.rpartition("/")[2])
    for batch in subscribe(socket, payload, idle=None if args.follow else IDLE_SECS, on_accepted=prefixes.expect):
        for line in rows(batch, "logs"):
            if args.json:
                out_json(line)
            else:
                prefix = "" if args.no_log_prefix else prefixes.of(line)
                out(prefix + _shown(line, timestamps=args.timestamps))
    return ExitCode.OK


class _Prefixes:
    """Whose line it is, as `docker compose logs` shows it: from the moment when there are several replicas."""

    def __init__(self, name: str) -> None:
        self._name = printable(name)
        self._known: set[int] = set()
        self._has_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def expect(self, accepted: Json) -> None:
        """Learn the replicas that were there at the beginning."""
        if failed := text(accepted, "failed_deployment_id", ""):
            err(f"the log of deployment {failed}, which failed:")
        numbers = accepted.get("replicas")
        self._known |= {number for number in numbers if isinstance(number, int)} if isinstance(numbers, list) else set()

    def of(self, line: Json) -> str:
        """What stands before a line."""
        number = line.get("replica")
        if not isinstance(number, int):
            return ""
        self._known.add(number)
        if len(self._known) < 2:
            return ""
        width = len(f"{self._name}-{max(self._known)}")
        prefix = f"{f'{self._name}-{number}':{width}}  | "
        # SGR of ECMA-48 8.3.117; the same replica has the same colour in every call.
        return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{prefix}\x1b[0m" if self._has_colours else prefix


def _shown(line: Json, *, timestamps: bool) -> str:
    message = printable(text(line, "message", ""), keep="\t")
    if line.get("truncated") is True:
        message += f" … (cut at {LINE_KIB} KiB)"
    return f"{printable(text(line, 'timestamp'))} {message}" if timestamps else message
