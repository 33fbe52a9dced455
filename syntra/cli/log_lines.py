"""The log lines of several services: the newest of all, merged by time, and then what comes."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from syntra.cli.agent_client import AgentConnection, Envelope, raise_for_error, subscribe
from syntra.cli.reading import Json, rows, text
from syntra.utils.frozen import frozen

IDLE_SECS = 60.0
"""Longest silence while past lines are read; following is silent for as long as the services are."""
MOST = 100_000
"""The agent reads at most so many lines at once."""

Line = tuple[str, Json]
"""The service's id, and one of its lines."""


@frozen
class Past:
    """`lines` oldest first; `newest` is the time of the last line that was read of each service."""

    lines: Sequence[Line]
    newest: Mapping[str, str]


def past(
    socket: Path,
    services: Sequence[str],
    payload: Mapping[str, object],
    *,
    tail: int,
    fetched: int,
    is_wanted: Callable[[Json], bool],
    on_accepted: Callable[[str, Json], object],
) -> Past:
    """The newest `tail` wanted lines of all services. `fetched` lines are read of each."""
    found: list[Line] = []
    newest: dict[str, str] = {}
    for service in services:
        # The agent has merged the replicas of one service by time; its newest lines come last.
        own: deque[Line] = deque(maxlen=tail)
        asked = {**payload, "service_id": service, "follow": False, "tail": fetched}
        for batch in subscribe(socket, asked, idle=IDLE_SECS, on_accepted=partial(on_accepted, service)):
            for line in rows(batch, "logs"):
                newest[service] = max(newest.get(service, ""), _moment(line))
                if is_wanted(line):
                    own.append((service, line))
        found += own
    if len(services) > 1:
        found.sort(key=lambda item: _moment(item[1]))
    return Past(lines=found[-tail:] if tail else [], newest=newest)


def coming(
    socket: Path, payloads: Mapping[str, Mapping[str, object]], on_accepted: Callable[[str, Json], object]
) -> Iterator[Line]:
    """The lines of services as they come, each service by its own payload. Ends when the agent ends all."""
    with ExitStack() as stack:
        opened: dict[AgentConnection, str] = {}
        for service, payload in payloads.items():
            connection = stack.enter_context(AgentConnection.open(socket))
            connection.send("logs_subscribe", {**payload, "service_id": service, "follow": True})
            opened[connection] = service
        while opened:
            for connection in select.select(list(opened), [], [])[0]:
                service = opened[connection]
                for envelope in connection.arrived():
                    if envelope.type == "command_response":
                        raise_for_error(envelope.payload)
                        on_accepted(service, _data(envelope))
                    elif envelope.type == "log_stream":
                        yield from ((service, line) for line in rows(envelope.payload, "logs"))
                        if envelope.payload.get("done") is True:
                            opened.pop(connection, None)


def _data(envelope: Envelope) -> Json:
    data = envelope.payload.get("data")
    return data if isinstance(data, dict) else {}


def _moment(line: Json) -> str:
    return text(line, "timestamp", "")
