"""What the session asks of the one who moves its bytes. Pure data; `session` says when each is returned."""

from __future__ import annotations

import enum

from syntra.connection.codec import Envelope
from syntra.connection.messages import HelloAck
from syntra.utils.frozen import frozen


class SendKind(enum.Enum):
    CONTROL = "control"  # hello, pong: before anything else
    HEARTBEAT = "heartbeat"  # never queued: skipped while the last one has not left


@frozen
class Dial:
    """Open a connection; answer with `opened` or `dial_failed`."""


@frozen
class Send:
    text: str
    kind: SendKind


@frozen
class Deliver:
    """A message for the router, of whatever type."""

    envelope: Envelope


@frozen
class Ready:
    ack: HelloAck


@frozen
class Lost:
    """The READY connection is over."""

    reason: str


@frozen
class RequestHeartbeat:
    """Gather the figures and hand them to `heartbeat_ready`."""


@frozen
class Close:
    """Close politely. If `closed` does not follow, an `Abort` will."""

    code: int
    reason: str


@frozen
class Abort:
    """Break the socket, or cancel the dial, without another word."""

    reason: str


@frozen
class Ignored:
    """A frame was dropped; for the log."""

    reason: str
    malformed: bool


Effect = Dial | Send | Deliver | Ready | Lost | RequestHeartbeat | Close | Abort | Ignored
