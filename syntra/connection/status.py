"""The state of the connection, for `status`."""

from __future__ import annotations

from collections.abc import Callable

from syntra.connection.session import STOP_REASON, Session, State
from syntra.utils.frozen import frozen


@frozen
class ConnectionStatus:
    """A snapshot of the connection. `detail` is a sentence without secrets; durations are in seconds."""

    state: State
    endpoint: str
    detail: str
    since_secs: float
    """How long the connection has been in this state."""
    round_trip_secs: float | None
    """Time between the last heartbeat and its pong; None when not READY or not measured yet."""
    attempts: int
    """Failures since the control plane last accepted the agent."""
    next_attempt_secs: float | None
    """Time until the next dial; None when none is planned."""
    malformed_frames: int


def describe(session: Session, *, endpoint: str, now: float, clean: Callable[[str], str]) -> ConnectionStatus:
    """Take a snapshot. `clean` removes secrets from a sentence that may quote the peer."""
    return ConnectionStatus(
        state=session.state,
        endpoint=endpoint,
        detail=clean(_detail(session)),
        since_secs=max(0.0, now - session.state_since),
        round_trip_secs=session.round_trip_secs,
        attempts=session.failures,
        next_attempt_secs=None if session.next_dial is None else max(0.0, session.next_dial - now),
        malformed_frames=session.malformed_frames,
    )


def _detail(session: Session) -> str:
    if session.stopping:
        return STOP_REASON
    verdict = session.verdict
    before = f"; before: {verdict.sentence}" if verdict is not None else ""
    match session.state:
        case State.READY:
            return "connected"
        case State.CONNECTING:
            return "dialling" + before
        case State.HELLO_SENT:
            return "waiting for hello_ack" + before
        case State.CLOSING:
            return "closing"
        case State.DISCONNECTED:
            return verdict.sentence if verdict is not None else "not started"
