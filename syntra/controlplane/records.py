"""What the store hands out: one frozen record per row."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field

from syntra.model.status import DeployState
from syntra.utils.frozen import frozen

JsonObject = Mapping[str, object]


class CommandState(enum.Enum):
    """How far a command came. Sends are at most once: `sent` means given to the socket, not taken by the agent."""

    QUEUED = "queued"
    SENT = "sent"
    ANSWERED = "answered"
    TIMED_OUT = "timed_out"


@frozen
class Server:
    """One server: its last hello and heartbeat as received, and counters of what is not kept. Times in ISO 8601."""

    server_id: str
    name: str
    created_at: str
    hello: JsonObject | None
    hello_at: str | None
    heartbeat: JsonObject | None
    heartbeat_at: str | None
    telemetry_batches: int
    telemetry_bytes: int
    ignored_messages: int


@frozen
class Command:
    """One command as sent or queued. Payloads hold secrets and are not kept once sent."""

    request_id: str
    server_id: str
    type: str
    deployment_id: str | None
    state: CommandState
    created_at: str
    response: JsonObject | None = field(repr=False)
    answered_at: str | None
    stream_done: bool

    @property
    def was_refused(self) -> bool:
        """Answered with `success` false."""
        return self.response is not None and self.response.get("success") is False


@frozen
class QueuedDeploy:
    """A deploy waiting for its server; `payload` is JSON text."""

    request_id: str
    deployment_id: str
    payload: str = field(repr=False)


@frozen
class Deployment:
    """One deployment; `status` is the latest reported one. `request_id` is None when the agent began it by itself."""

    deployment_id: str
    server_id: str
    service_id: str | None
    request_id: str | None
    status: DeployState | None
    created_at: str
    updated_at: str


@frozen
class Entry:
    """A received payload in order: an event of a deployment, or an alert. `seq` grows, with gaps."""

    seq: int
    received_at: str
    payload: JsonObject = field(repr=False)


@frozen
class LogLine:
    """One line of a log subscription. `seq` is 0 until the store numbers it."""

    seq: int
    timestamp: str
    stream: str
    message: str = field(repr=False)


@frozen
class LogState:
    """Whether the agent has said that no more lines come, and whether lines beyond the ones read are there."""

    done: bool
    has_lines: bool
