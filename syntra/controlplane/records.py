"""The records of the store: one frozen value per row."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field

from syntra.model.status import DeployState
from syntra.utils.frozen import frozen

JsonObject = Mapping[str, object]


class CommandState(enum.Enum):
    """The state of a command. `sent` means written to the socket; the agent may not have received it."""

    QUEUED = "queued"
    SENT = "sent"
    ANSWERED = "answered"
    TIMED_OUT = "timed_out"


@frozen
class Server:
    """One server: its last hello and heartbeat, and counters of messages that are not stored. Times in ISO 8601."""

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
    """One command. Its payload holds secrets, so it is stored only while the command is queued."""

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
        """Whether the response has `success` false."""
        return self.response is not None and self.response.get("success") is False


@frozen
class QueuedDeploy:
    """A deploy that is queued for its server; `payload` is JSON text."""

    request_id: str
    deployment_id: str
    payload: str = field(repr=False)


@frozen
class Deployment:
    """One deployment with its latest status. `request_id` is None when the deploy did not come from here."""

    deployment_id: str
    server_id: str
    service_id: str | None
    request_id: str | None
    status: DeployState | None
    created_at: str
    updated_at: str


@frozen
class Entry:
    """A received payload: an event of a deployment, or an alert. `seq` increases, with gaps."""

    seq: int
    received_at: str
    payload: JsonObject = field(repr=False)


@frozen
class LogLine:
    """One line of a log subscription. `seq` is 0 before it is stored."""

    seq: int
    timestamp: str
    stream: str
    message: str = field(repr=False)


@frozen
class LogState:
    """Whether the subscription has ended, and whether it has lines that were not read yet."""

    done: bool
    has_lines: bool
