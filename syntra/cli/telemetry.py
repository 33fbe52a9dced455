"""`telemetry status` and `telemetry tail`: what the agent receives, keeps and ships, and a live view of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from syntra.cli import table
from syntra.cli.agent_client import AgentConnection, ask, raise_for_error
from syntra.cli.exit_codes import CliError, ExitCode
from syntra.cli.options import add_json, socket_path
from syntra.cli.reading import UNKNOWN, Json, number, rows, section, text
from syntra.cli.services import find
from syntra.cli.table import duration
from syntra.cli.terminal import err, out, out_json, printable

SIGNALS = ("traces", "metrics", "logs", "profiles", "errors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """status | tail, --service, --signal, --json."""
    parser.add_argument(
        "action",
        metavar="ACTION",
        choices=("status", "tail"),
        help="status: counts for each signal and service, the buffer, and where it is shipped; "
        "tail: show telemetry as it is received, until Ctrl-C",
    )
    parser.add_argument("--service", metavar="NAME", default="", help="tail: only this service")
    parser.add_argument("--signal", choices=SIGNALS, default="", metavar="SIGNAL", help=f"tail: {', '.join(SIGNALS)}")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask or follow, and print."""
    socket = socket_path(args)
    if args.action == "status" and (args.service or args.signal):
        raise CliError(
            "cannot select a service or signal in status: only tail takes them; leave them out", ExitCode.USAGE
        )
    if args.action == "tail":
        return _tail(socket, {"service": _service_id(socket, args.service), "signal": args.signal}, as_json=args.json)
    data = ask(socket, "telemetry_status", {})
    if args.json:
        out_json(data)
        return ExitCode.OK
    _show(data)
    return ExitCode.OK


def _service_id(socket: Path, name: str) -> str:
    """The id of a service of the agent, or the name of another program as its telemetry has it."""
    if not name:
        return name
    known = rows(ask(socket, "list_services", {}), "services")
    is_known = any(name in _names(row) for row in known)
    # `find` refuses a name that two projects have.
    return find(socket, name) if is_known else name


def _names(row: Json) -> tuple[str, ...]:
    name = text(row, "service_name")
    return text(row, "service_id"), name, f"{text(row, 'project_name')}/{name}"


def _tail(socket: Path, filters: Json, *, as_json: bool) -> int:
    with AgentConnection.open(socket) as connection:
        request_id = connection.send("telemetry_tail", filters)
        while True:
            envelope = connection.receive(None)
            if envelope.payload.get("request_id") != request_id:
                continue
            if envelope.type == "command_response":
                raise_for_error(envelope.payload)
            for item in rows(envelope.payload, "items"):
                if as_json:
                    out_json({key: value for key, value in item.items() if key != "line"})
                else:
                    out(printable(text(item, "line")))
            if missed := number(envelope.payload, "missed"):
                # With --json, standard output has nothing but JSON.
                (err if as_json else out)(f"… {missed:.0f} more, faster than they can be shown")


def _show(data: Json) -> None:
    receivers, buffer = rows(data, "receivers"), section(data, "buffer")
    for problem in _problems(data, receivers, text(buffer, "memory_only", "")):
        _line("problem", problem)
    working = (text(row, "url") for row in receivers if not text(row, "problem", ""))
    _line("receivers", ", ".join(working) or "none")
    _show_buffer(buffer)
    for row in rows(data, "destinations"):
        _line("shipping", _destination(row))
    _line("sampling", _sampling(section(data, "sampling")))
    if (logs := _container_logs(section(data, "container_logs"))) is not None:
        _line("logs", logs)
    out()
    names = ("signal", "received", "refused", "sampled out", "kept", "buffered", "shipped", "dropped", "rate")
    table.show(names, [_counts(row) for row in rows(data, "signals")], empty="nothing received yet")
    _show_scrapes(section(data, "scrapes"))
    services = rows(data, "services")
    if services:
        out()
        table.show(
            ("service", "requests/s", "errors", "p50", "p95", "p99", "sampled at"),
            [_service(row) for row in services],
            empty="",
        )


def _show_scrapes(scrapes: Json) -> None:
    targets = rows(scrapes, "targets")
    if targets:
        out()
        table.show(
            ("target", "service", "last", "took", "samples", "kept", "state"),
            [_target(row) for row in targets],
            empty="",
        )
    if refused := number(scrapes, "refused_targets"):
        limit = number(scrapes, "max_targets") or 0
        out(f"{refused:.0f} more targets are not scraped; raise telemetry.prometheus.max_targets, which is {limit:.0f}")


def _target(row: Json) -> tuple[str, ...]:
    last, took = number(row, "last_scrape_seconds"), number(row, "duration_seconds")
    counts = (f"{value:.0f}" if (value := number(row, name)) is not None else UNKNOWN for name in ("samples", "kept"))
    return (
        printable(text(row, "url")),
        printable(text(row, "service")),
        f"{duration(last)} ago" if last is not None else UNKNOWN,
        f"{took * 1000:.1f} ms" if took is not None and last is not None else UNKNOWN,
        *counts,
        printable(text(row, "problem", "") or "up"),
    )


def _problems(data: Json, receivers: Iterable[Json], memory_only: str) -> list[str]:
    """Each problem once, although the first of them all is also named by its part."""
    first = text(data, "problem", "")
    found = [first, *(text(row, "problem", "") for row in receivers)]
    if memory_only and memory_only not in first:
        found.append(f"the buffer is in memory only: {memory_only}")
    return list(filter(None, dict.fromkeys(found)))


def _show_buffer(buffer: Json) -> None:
    used, limit = number(buffer, "bytes"), number(buffer, "max_bytes")
    if used is None or limit is None:
        return
    oldest = number(buffer, "oldest_seconds")
    age = f", oldest {duration(oldest)} ago" if oldest is not None else ""
    _line("buffer", f"{table.size(used)} of {table.size(limit)}{age}")


def _destination(row: Json) -> str:
    state = text(row, "problem", "") or "running"
    last = number(row, "last_success_seconds")
    when = f", last batch {duration(last)} ago" if last is not None else ""
    return f"{text(row, 'name')}: {state}{when}"


def _sampling(sampling: Json) -> str:
    rate, target = number(sampling, "spans_per_sec"), number(sampling, "target_spans_per_sec")
    if rate is None or target is None:
        return UNKNOWN
    shown = f"{rate:.0f} spans/s received, target {target:.0f}; {text(sampling, 'state')}"
    logs = number(sampling, "logs_probability")
    return shown if logs is None or logs >= 1 else f"{shown}; {logs:.1%} of ordinary log records are kept"


def _container_logs(logs: Json) -> str | None:
    """How many logs are read, and what of them is missing; None when none are."""
    count = number(logs, "containers")
    if not count:
        return None
    streamed = number(logs, "streamed") or 0
    parts = [f"of {count:.0f} containers" + (f" ({streamed:.0f} through the engine)" if streamed else "")]
    parts.append(f"{number(logs, 'lines') or 0:.0f} records")
    for name, meaning in _LOST.items():
        if lost := number(logs, name):
            parts.append(f"{lost:.0f} {meaning}")
    return ", ".join(parts)


_LOST = {
    "dropped_lines": "dropped by rate limits",
    "unreadable": "lines damaged",
    "invalid_utf8": "characters replaced that were no UTF-8",
}


def _counts(row: Json) -> tuple[str, ...]:
    columns = ("received", "refused", "sampled_out", "kept", "buffered", "shipped", "dropped")
    shown = (f"{value:.0f}" if (value := number(row, name)) is not None else UNKNOWN for name in columns)
    rate = number(row, "rate")
    return (text(row, "signal"), *shown, f"{rate:.1f}/s" if rate is not None else UNKNOWN)


def _service(row: Json) -> tuple[str, ...]:
    rate, errors, share = (number(row, name) for name in ("requests_per_sec", "error_share", "sampling"))
    return (
        text(row, "service"),
        f"{rate:.1f}" if rate is not None else UNKNOWN,
        f"{errors:.1%}" if errors is not None else UNKNOWN,
        *(f"{value:.1f} ms" if (value := number(row, name)) is not None else UNKNOWN for name in ("p50", "p95", "p99")),
        f"{share:.1%}" if share is not None else UNKNOWN,
    )


def _line(name: str, value: str) -> None:
    out(f"{name + ':':15}{printable(value)}")
