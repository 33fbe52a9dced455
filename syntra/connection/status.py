"""The connection as people see it."""

from __future__ import annotations

from collections.abc import Callable

from syntra.connection.session import STOP_REASON, Session, State
from syntra.utils.frozen import frozen


@frozen
class ConnectionStatus:
    """The connection at one moment. `detail` is a sentence without secrets; durations are seconds."""

    state: State
    endpoint: str
    detail: str
    since_secs: float
    """How long the state has lasted."""
    round_trip_secs: float | None
    """Of the last heartbeat and its pong; None when not READY or not yet measured."""
    attempts: int
    """Failures since a connection was last accepted."""
    next_attempt_secs: float | None
    """Until the next dial; None when none is planned."""
    malformed_frames: int


def describe(session: Session, *, endpoint: str, now: float, clean: Callable[[str], str]) -> ConnectionStatus:
    """A snapshot. `clean` takes secrets out of a sentence that may quote the peer."""
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
