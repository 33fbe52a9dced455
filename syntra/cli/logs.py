"""`logs`: the output of services, from the past and as it comes, merged by time."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.log_lines import MOST, Line, coming, past
from syntra.cli.look import add_color, look_of
from syntra.cli.options import add_json, count, socket_path
from syntra.cli.reading import Json, rows, text
from syntra.cli.services import chosen
from syntra.cli.since import since
from syntra.cli.terminal import err, out, out_json, printable

LINE_KIB = 64
"""What the agent keeps of a line."""

_COLOURS = (36, 33, 32, 35, 34, 31)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE…, --all, --deployment, -f, --tail, --since, --grep, -t, --no-log-prefix, --color, --json."""
    parser.add_argument("services", metavar="SERVICE", nargs="*", help="name, project/name or id; several are merged")
    parser.add_argument("-a", "--all", action="store_true", help="of all services")
    parser.add_argument("--deployment", metavar="ID", help="only of this deployment; a failed one is kept for a day")
    parser.add_argument("-f", "--follow", action="store_true", help="continue with new lines as they are written")
    parser.add_argument(
        "--tail", type=count, default=100, metavar="N", help="number of recent lines over all replicas (default 100)"
    )
    parser.add_argument(
        "--since", type=since, metavar="TIME", help="only lines since then: 15m, 2h, 1d, or 2024-05-01T12:00:00Z"
    )
    parser.add_argument(
        "--grep", type=pattern, metavar="PATTERN", help="only lines with this regular expression; --tail counts these"
    )
    parser.add_argument("-t", "--timestamps", action="store_true", help="show the time of each line")
    parser.add_argument("--no-log-prefix", action="store_true", help="do not show the replica of each line")
    add_color(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print lines until the agent says that it is done."""
    socket = socket_path(args)
    names = _names(socket, args)
    payload: dict[str, object] = {}
    if args.since is not None:
        payload["since"] = args.since
    if args.deployment is not None:
        payload["deployment_id"] = args.deployment
    prefixes = _Prefixes(names, has_colours=look_of(sys.stdout, args.color).has_colours)
    for service, line in _lines(socket, args, payload, names, prefixes):
        if args.json:
            out_json({"service_id": service, **line} if len(names) > 1 else line)
        else:
            prefix = "" if args.no_log_prefix else prefixes.of(service, line)
            out(prefix + _shown(line, timestamps=args.timestamps))
    return ExitCode.OK


def pattern(given: str) -> re.Pattern[str]:
    """An argument that is a regular expression."""
    try:
        return re.compile(given)
    except re.error as wrong:
        raise argparse.ArgumentTypeError(f"{given[:40]!r} is not a regular expression: {wrong}") from None


def _names(socket: Path, args: argparse.Namespace) -> dict[str, str]:
    """The chosen services: ids, and the names to show."""
    if args.all == bool(args.services):
        raise CliError("cannot show logs: no service is named; give one or more, or --all", ExitCode.USAGE)
    if args.deployment is not None and len(args.services) != 1:
        raise CliError("cannot use --deployment: it belongs to one service; give exactly one SERVICE", ExitCode.USAGE)
    services = rows(ask(socket, "list_services", {}), "services")
    if args.all:
        return {text(one, "service_id"): text(one, "service_name", text(one, "service_id")) for one in services}
    if len(args.services) == 1 and args.services[0].startswith("svc_"):
        # It may be unknown here: the agent decides.
        return {args.services[0]: args.services[0]}
    return {text(chosen(services, given)[0], "service_id"): given.rpartition("/")[2] for given in args.services}


def _lines(
    socket: Path, args: argparse.Namespace, payload: Mapping[str, object], names: Mapping[str, str], prefixes: _Prefixes
) -> Iterator[Line]:
    def is_wanted(line: Json) -> bool:
        return args.grep is None or args.grep.search(text(line, "message", "")) is not None

    services: Sequence[str] = list(names)
    newest: Mapping[str, str] = {}
    if args.tail or not args.follow:
        # Only some of the lines match: look through all that the agent gives.
        fetched = args.tail if args.grep is None else MOST
        read = past(
            socket,
            services,
            payload,
            tail=args.tail,
            fetched=fetched,
            is_wanted=is_wanted,
            on_accepted=prefixes.expect,
        )
        newest = read.newest
        yield from read.lines
    if not args.follow:
        return
    # Where the past lines end, the new ones begin.
    begins = {
        service: {
            **payload,
            "tail": MOST if args.tail else 0,
            **({"since": newest[service]} if newest.get(service) else {}),
        }
        for service in services
    }
    for service, line in coming(socket, begins, prefixes.expect):
        moment = text(line, "timestamp", "")
        if is_wanted(line) and (not moment or moment > newest.get(service, "")):
            yield service, line


class _Prefixes:
    """Whose line it is, as `docker compose logs` shows it: from the moment when there are several replicas."""

    def __init__(self, names: Mapping[str, str], *, has_colours: bool) -> None:
        self._names = {service: printable(name) for service, name in names.items()}
        self._known: set[tuple[str, int]] = set()
        self._told: set[str] = set()
        self._has_colours = has_colours

    def expect(self, service: str, accepted: Json) -> None:
        """Learn the replicas that were there at the beginning."""
        if (failed := text(accepted, "failed_deployment_id", "")) and failed not in self._told:
            self._told.add(failed)
            err(f"the log of deployment {failed}, which failed:")
        numbers = accepted.get("replicas")
        found = [number for number in numbers if isinstance(number, int)] if isinstance(numbers, list) else []
        self._known |= {(service, number) for number in found}

    def of(self, service: str, line: Json) -> str:
        """What stands before a line."""
        number = line.get("replica")
        if not isinstance(number, int):
            return f"{self._names[service]}  | " if len(self._names) > 1 else ""
        self._known.add((service, number))
        if len(self._known) < 2 and len(self._names) < 2:
            return ""
        width = max(len(f"{self._names[known]}-{replica}") for known, replica in self._known)
        prefix = f"{f'{self._names[service]}-{number}':{width}}  | "
        # SGR of ECMA-48 8.3.117; the same replica has the same colour in every call.
        colour = _COLOURS[(list(self._names).index(service) + number) % len(_COLOURS)]
        return f"\x1b[{colour}m{prefix}\x1b[0m" if self._has_colours else prefix


def _shown(line: Json, *, timestamps: bool) -> str:
    message = printable(text(line, "message", ""), keep="\t")
    if line.get("truncated") is True:
        message += f" … (cut at {LINE_KIB} KiB)"
    return f"{printable(text(line, 'timestamp'))} {message}" if timestamps else message
