"""The effects that the session returns and the transport performs. Pure data; `session` says when it returns each."""

from __future__ import annotations

import enum

from syntra.connection.codec import Envelope
from syntra.connection.messages import HelloAck, TelemetryAck
from syntra.utils.frozen import frozen


class SendKind(enum.Enum):
    CONTROL = "control"  # hello, pong: sent before anything else
    HEARTBEAT = "heartbeat"  # never queued: skipped while the previous one is unsent


@frozen
class Dial:
    """Open a connection, then call `opened` or `dial_failed`."""


@frozen
class Send:
    text: str
    kind: SendKind


@frozen
class Deliver:
    """A message for the router, of any type."""

    envelope: Envelope


@frozen
class Acknowledged:
    """The control plane has answered a batch of telemetry."""

    ack: TelemetryAck


@frozen
class Ready:
    ack: HelloAck


@frozen
class Lost:
    """The READY connection has ended."""

    reason: str


@frozen
class RequestHeartbeat:
    """Collect the heartbeat payload and pass it to `heartbeat_ready`."""


@frozen
class Close:
    """Start the closing handshake. If `closed` does not follow in time, the session returns `Abort`."""

    code: int
    reason: str


@frozen
class Abort:
    """Close the socket, or cancel the dial, without a closing handshake."""

    reason: str


@frozen
class Ignored:
    """A dropped frame, for the log."""

    reason: str
    malformed: bool


Effect = Dial | Send | Deliver | Acknowledged | Ready | Lost | RequestHeartbeat | Close | Abort | Ignored
