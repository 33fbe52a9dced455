"""The effects that the session returns and the transport performs. Pure data; `session` says when it returns each."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from syntra.connection.codec import Envelope
from syntra.connection.messages import HelloAck


class SendKind(enum.Enum):
    CONTROL = "control"  # hello, pong: sent before anything else
    HEARTBEAT = "heartbeat"  # never queued: skipped while the previous one is unsent


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a connection, then call `opened` or `dial_failed`."""


@dataclass(frozen=True, slots=True)
class Send:
    text: str
    kind: SendKind


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message for the router, of any type."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Ready:
    ack: HelloAck


@dataclass(frozen=True, slots=True)
class Lost:
    """The READY connection has ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestHeartbeat:
    """Collect the heartbeat payload and pass it to `heartbeat_ready`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Start the closing handshake. If `closed` does not follow in time, the session returns `Abort`."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Close the socket, or cancel the dial, without a closing handshake."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A dropped frame, for the log."""

    reason: str
    malformed: bool


Effect = Dial | Send | Deliver | Ready | Lost | RequestHeartbeat | Close | Abort | Ignored
