"""What the session asks of the one who moves its bytes. Pure data; `session` says when each is returned."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from syntra.connection.codec import Envelope
from syntra.connection.messages import HelloAck


class SendKind(enum.Enum):
    CONTROL = "control"  # hello, pong: before anything else
    HEARTBEAT = "heartbeat"  # never queued: skipped while the last one has not left


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a connection; answer with `opened` or `dial_failed`."""


@dataclass(frozen=True, slots=True)
class Send:
    text: str
    kind: SendKind


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message for the router, of whatever type."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Ready:
    ack: HelloAck


@dataclass(frozen=True, slots=True)
class Lost:
    """The READY connection is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestHeartbeat:
    """Gather the figures and hand them to `heartbeat_ready`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close politely. If `closed` does not follow, an `Abort` will."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Break the socket, or cancel the dial, without another word."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A frame was dropped; for the log."""

    reason: str
    malformed: bool


Effect = Dial | Send | Deliver | Ready | Lost | RequestHeartbeat | Close | Abort | Ignored
