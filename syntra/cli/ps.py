"""`ps`: the services on this server, or their replicas."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from syntra.cli import table
from syntra.cli.agent_client import ask
from syntra.cli.exit_codes import ExitCode
from syntra.cli.look import columns, look_of
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import UNKNOWN, Json, number, rows, section, text, texts
from syntra.cli.table import column
from syntra.cli.terminal import out, out_json, write

WATCH_SECS = 2.0
SHOWN_ENDPOINTS = 2
FAILED = "failed"
"""The status of a service none of whose deployments has succeeded."""

# CSI sequences of ECMA-48: home, erase the screen, and erase to the end of line and screen.
_HOME, _ERASE, _ERASE_LINE, _ERASE_BELOW = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"
_SERVICES = (
    column("service", 8),
    column("project", 6, 2),
    column("image", 10, 1),
    column("status", 17),
    column("health"),
    column("replicas"),
    column("restarts", rank=5),
    column("age", rank=4),
    column("ports", 5, 3),
    column("endpoints", 10, 7),
)
_REPLICAS = (
    column("name", 8),
    column("container", 10, 5),
    column("where", rank=4),
    column("state", 16),
    column("health"),
    column("restarts", rank=1),
    column("cpu"),
    column("memory"),
    column("age", rank=6),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SERVICE, -a, -v, --watch, --json."""
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="the replicas of this one")
    parser.add_argument(
        "-a", "--all", action="store_true", help="one line for each replica, and failed deployments, which do not run"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="also show ids of deployments")
    parser.add_argument("-w", "--watch", action="store_true", help=f"show again every {WATCH_SECS:g} s, until Ctrl-C")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Query the agent and print, once or until interrupted."""
    socket = socket_path(args)
    if not args.watch:
        _show(socket, args)
        return ExitCode.OK
    before: list[str] = []
    while True:
        is_live = look_of(sys.stdout).is_live and not args.json
        lines = [] if args.json else _lines(_services(socket, args), args)
        if args.json:
            _show(socket, args)
        elif is_live:
            # Erased once: erasing before every drawing flickers.
            begin = _HOME if before else _HOME + _ERASE
            write(sys.stdout, begin + "".join(f"{line}{_ERASE_LINE}\n" for line in lines) + _ERASE_BELOW)
        elif lines != before:
            for line in lines:
                out(line)
        before = lines
        time.sleep(WATCH_SECS)


def _show(socket: Path, args: argparse.Namespace) -> None:
    services = _services(socket, args)
    if args.json:
        out_json({"services": services})
        return
    for line in _lines(services, args):
        out(line)


def _services(socket: Path, args: argparse.Namespace) -> Sequence[Json]:
    services = rows(ask(socket, "list_services", {}), "services")
    if args.service is None:
        return services
    # Imported here: `ps` of everything starts faster without.
    from syntra.cli.services import chosen

    return chosen(services, args.service)


def _lines(services: Sequence[Json], args: argparse.Namespace) -> list[str]:
    if args.service is not None or args.all:
        return replica_lines(services, verbose=args.verbose)
    return service_lines(services, with_failed=False, verbose=args.verbose)


def service_lines(services: Sequence[Json], *, with_failed: bool, verbose: bool = False) -> list[str]:
    """One line for each service, and one for its failed deployment, in the width of the terminal."""
    found: list[tuple[str, ...]] = []
    for service in services:
        found += [] if text(service, "status") == FAILED else [(*_line(service), text(service, "deployment_id"))]
        failed = section(service, "failed")
        found += [(*_failed(service), text(failed, "deployment_id"))] if with_failed and failed else []
    if not found:
        return ["no services"]
    shown = (*_SERVICES, column("deployment", 8)) if verbose else _SERVICES
    return table.fitted(shown, [row[: len(shown)] for row in found], columns(sys.stdout))


def replica_lines(services: Sequence[Json], *, verbose: bool = False) -> list[str]:
    """One line for each replica, also of failed deployments, in the width of the terminal."""
    found: list[tuple[str, ...]] = []
    for service in services:
        replicas = rows(service, "containers")
        found += [(*_replica(service, one), text(one, "deployment_id")) for one in replicas]
        if not replicas and text(service, "status") != FAILED:
            found.append((text(service, "service_name"), *["-"] * 2, _status(service), *["-"] * 5, "-"))
        if failed := section(service, "failed"):
            state = _with(FAILED, exit_word(failed))
            name = text(service, "service_name", text(service, "service_id"))
            kept = text(failed, "container_name")
            found.append((name, kept, "-", state, *["-"] * 5, text(failed, "deployment_id")))
    if not found:
        return ["no services"]
    shown = (*_REPLICAS, column("deployment", 8)) if verbose else _REPLICAS
    return table.fitted(shown, [row[: len(shown)] for row in found], columns(sys.stdout))


def exit_word(failed: Json) -> str:
    """How the container of a failed deployment ended; empty when it never ran."""
    code = number(failed, "exit_code")
    return "" if code is None or not failed.get("started_at") else f"exit {code:g}"


def health_word(source: Json) -> str:
    """The health of a service or replica, as far as it is known: `starting` before the first answer, else `-`."""
    health = text(source, "health")
    if health != "unknown":
        return health
    is_up = text(source, "status") in ("running", "restarting")
    return "starting" if source.get("has_check") is True and is_up else UNKNOWN


def count_word(service: Json) -> str:
    """`1/2`: how many replicas run, and how many are configured."""
    replicas = section(service, "replicas")
    wanted = number(service, "configured_replicas")
    return f"{text(replicas, 'running')}/{text(replicas, 'desired') if wanted is None else f'{wanted:g}'}"


def age(source: Json) -> str:
    """Its age in the largest units."""
    secs = number(source, "age_seconds")
    return table.duration(secs).partition(" ")[0] if secs is not None else UNKNOWN


def _line(service: Json) -> tuple[str, ...]:
    return (
        text(service, "service_name", text(service, "service_id")),
        text(service, "project_name"),
        text(service, "image"),
        _status(service),
        health_word(service),
        count_word(service),
        text(service, "restarts"),
        age(service),
        " ".join(texts(service, "ports")) or UNKNOWN,
        _endpoints(texts(service, "urls") or texts(service, "domains")),
    )


def _failed(service: Json) -> tuple[str, ...]:
    failed = section(service, "failed")
    return (
        text(service, "service_name", text(service, "service_id")),
        text(service, "project_name"),
        text(failed, "image"),
        _with(FAILED, exit_word(failed)),
        *("-",) * 6,
    )


def _replica(service: Json, one: Json) -> tuple[str, ...]:
    name = text(service, "service_name", text(service, "service_id"))
    cpu, memory = number(one, "cpu_percent"), number(one, "memory_mb")
    is_up = text(one, "status") in ("running", "restarting")
    code = number(one, "exit_code")
    state = text(one, "status")
    return (
        f"{name}-{text(one, 'replica')}",
        text(one, "container_name", text(one, "container_id")),
        text(one, "place"),
        state if is_up or not code else f"{state} (exit {code:g})",
        health_word(one),
        text(one, "restart_count"),
        f"{cpu:.1f}%" if cpu is not None and is_up else UNKNOWN,
        table.memory(memory) if memory is not None and is_up else UNKNOWN,
        age(one),
    )


def _status(service: Json) -> str:
    paused = "paused" if section(service, "paused") else ""
    return _with(text(service, "status"), "; ".join(filter(None, (text(service, "status_detail", ""), paused))))


def _with(word: str, detail: str) -> str:
    return word + (f" ({detail})" if detail else "")


def _endpoints(urls: Sequence[str]) -> str:
    # --json shows all; ten in one row would push the other columns off the screen.
    more = f" +{len(urls) - SHOWN_ENDPOINTS}" if len(urls) > SHOWN_ENDPOINTS else ""
    return (" ".join(urls[:SHOWN_ENDPOINTS]) + more) or UNKNOWN
