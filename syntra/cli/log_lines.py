"""The log lines of several services: the newest of all, merged by time, and then what comes."""

from __future__ import annotations

import heapq
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from syntra.cli.agent_client import AgentConnection, Envelope, raise_for_error, subscribe
from syntra.cli.reading import Json, rows, text

IDLE_SECS = 60.0
"""Longest silence while past lines are read; following is silent for as long as the services are."""
MOST = 100_000
"""The agent reads at most so many lines at once."""

Accepted = Callable[[str, Json], object]
Line = tuple[str, Json]
"""The service's id, and one of its lines."""


def past(
    socket: Path,
    services: Sequence[str],
    payload: Mapping[str, object],
    *,
    tail: int,
    fetched: int,
    is_wanted: Callable[[Json], bool],
    on_accepted: Accepted,
) -> list[Line]:
    """The newest `tail` wanted lines of all services, oldest first. `fetched` lines are read of each service."""
    found: list[tuple[str, int, str, Json]] = []
    added = 0
    for service in services:
        asked = {**payload, "service_id": service, "follow": False, "tail": fetched}
        for batch in subscribe(
            socket, asked, idle=IDLE_SECS, on_accepted=lambda data, service=service: on_accepted(service, data)
        ):
            for line in rows(batch, "logs"):
                if is_wanted(line):
                    added += 1
                    found.append((text(line, "timestamp", ""), added, service, line))
    return [(service, line) for _, _, service, line in sorted(heapq.nlargest(tail, found))]


def coming(socket: Path, services: Sequence[str], payloads: Mapping[str, Mapping[str, object]]) -> Iterator[Line]:
    """The lines of services as they come, each service by its own payload. Ends when the agent ends all."""
    with ExitStack() as stack:
        opened: dict[AgentConnection, tuple[str, str]] = {}
        for service in services:
            connection = stack.enter_context(AgentConnection.open(socket))
            asked = {**payloads[service], "service_id": service, "follow": True}
            opened[connection] = (service, connection.send("logs_subscribe", asked))
        while opened:
            for connection in select.select(list(opened), [], [])[0]:
                service, _ = opened[connection]
                for envelope in connection.arrived():
                    yield from ((service, line) for line in _lines(envelope))
                    if envelope.type == "log_stream" and envelope.payload.get("done") is True:
                        opened.pop(connection, None)


def _lines(envelope: Envelope) -> list[Json]:
    if envelope.type == "command_response":
        raise_for_error(envelope.payload)
    return rows(envelope.payload, "logs") if envelope.type == "log_stream" else []


def newest(lines: Sequence[Line], service: str) -> str:
    """The time of the newest line of a service; empty when it has none."""
    return max((text(line, "timestamp", "") for of, line in lines if of == service), default="")


def replicas(accepted: Json) -> set[int]:
    """The numbers of the replicas that an accepted subscription reads."""
    numbers = accepted.get("replicas")
    return {number for number in numbers if isinstance(number, int)} if isinstance(numbers, list) else set()


def failed(accepted: Json) -> str:
    """The failed deployment that an accepted subscription reads; empty when it is none."""
    return text(accepted, "failed_deployment_id", "")
