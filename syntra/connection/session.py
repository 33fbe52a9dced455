"""The connection to the control plane as a state machine, without I/O, clock or randomness of its own.

One session lives as long as the agent and cycles through these states:

    DISCONNECTED ──dial──▶ CONNECTING ──opened──▶ HELLO_SENT ──hello_ack──▶ READY
         ▲                     │                      │                      │
         ├──── dial failed ────┘                      └──── leave ──┐┌─ leave ┘
         │                                                          ▼▼
         └───────────────────────── closed ─────────────────────  CLOSING

- Every input takes `now` (monotonic seconds) and returns effects, which the transport performs in order. It reports
  each result back: `opened` or `dial_failed` for `Dial`; `closed` for `Close` and `Abort` (or `dial_failed`, if the
  dial was still pending); `heartbeat_ready` for `RequestHeartbeat`.
- A dial is pending only in CONNECTING, and in CLOSING if the session left during the dial. No socket exists in
  DISCONNECTED, and `Dial` is returned only when that state is left. So two sockets never exist at once: current control
  planes forget a server's new connection when its old one closes late.
- Before READY only hello is sent. Pings that arrive before hello_ack are answered right after it.
- `Ready` and `Lost` alternate. The session returns `Lost` as soon as it leaves READY, whichever side caused that.
- The first failure decides why the session leaves; the close code of the socket does not replace it.
- Any input from the peer is possible. An input that does not fit the state, such as a late result, has no effect.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from syntra.connection import messages
from syntra.connection.codec import MAX_FRAME_BYTES, Envelope, decode, encode
from syntra.connection.effects import (
    Abort,
    Acknowledged,
    Close,
    Deliver,
    Dial,
    Effect,
    Ignored,
    Lost,
    Ready,
    RequestHeartbeat,
    Send,
    SendKind,
)
from syntra.connection.errors import MalformedFrame, UnencodableMessage
from syntra.connection.retry import Backoff, DialFailure, FailureKind, Verdict, classify
from syntra.connection.settings import Timings

EARLY_PINGS_MAX = 8
"""The most pings stored before hello_ack. A correct control plane sends none there."""

HEARTBEATS_AWAITED_MAX = 4
"""The most heartbeats that wait for a pong. After three silent intervals the connection is closed anyway."""

STOP_REASON = "agent is stopping"


class State(enum.Enum):
    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    HELLO_SENT = "hello_sent"
    READY = "ready"
    CLOSING = "closing"


class Event(enum.Enum):
    """An event that changes the state. LEAVE has several causes: refusal, silence, no answer, redial, shutdown."""

    DIAL = "dial"
    DIAL_FAILED = "dial_failed"
    OPENED = "opened"
    ACCEPTED = "accepted"
    LEAVE = "leave"
    CLOSED = "closed"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.DISCONNECTED, Event.DIAL): State.CONNECTING,
    (State.CONNECTING, Event.DIAL_FAILED): State.DISCONNECTED,
    (State.CONNECTING, Event.OPENED): State.HELLO_SENT,
    (State.CONNECTING, Event.LEAVE): State.CLOSING,
    (State.HELLO_SENT, Event.ACCEPTED): State.READY,
    (State.HELLO_SENT, Event.LEAVE): State.CLOSING,
    (State.HELLO_SENT, Event.CLOSED): State.DISCONNECTED,
    (State.READY, Event.LEAVE): State.CLOSING,
    (State.READY, Event.CLOSED): State.DISCONNECTED,
    (State.CLOSING, Event.CLOSED): State.DISCONNECTED,
    (State.CLOSING, Event.DIAL_FAILED): State.DISCONNECTED,
}
"""All transitions. An event that is not listed for a state has no effect."""


class Session:
    """The state machine that the module describes. Not thread-safe; attributes are read-only for callers."""

    def __init__(
        self,
        *,
        backoff: Backoff,
        new_id: Callable[[], str],
        timestamp: Callable[[], str],
        heartbeat_interval_secs: float = 30.0,
        timings: Timings | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        now: float = 0.0,
    ) -> None:
        self._backoff = backoff
        self._new_id = new_id
        self._timestamp = timestamp
        self._timings = timings or Timings()
        self._configured_interval = heartbeat_interval_secs
        self._max_frame_bytes = max_frame_bytes
        self._clear()

        self.state = State.DISCONNECTED
        self.state_since = now
        self.stopping = False
        self.failure: DialFailure | None = None  # the last one
        self.verdict: Verdict | None = None  # of the last failure; None while READY
        self.next_dial: float | None = None  # set while DISCONNECTED and waiting
        self.round_trip_secs: float | None = None
        self.interval = heartbeat_interval_secs
        self.malformed_frames = 0
        self.frames_received = 0

    def _clear(self) -> None:
        """Reset the state that belongs to one connection."""
        self._leaving: DialFailure | None = None
        self._deadline: float | None = None  # for hello_ack in HELLO_SENT, for the close in CLOSING
        self._ready_since: float | None = None
        self._ready_for: float | None = None
        self._last_received = 0.0
        self._next_heartbeat = 0.0
        self._gathering = False
        self._early_pings: list[str] = []
        self._awaited: dict[str, float] = {}  # heartbeat id -> time when it was sent

    @property
    def failures(self) -> int:
        """Failed dials and short-lived connections since the last READY."""
        return self._backoff.failures

    # Inputs

    def dial(self, now: float) -> list[Effect]:
        """Dial now, even if a wait is planned. No effect unless DISCONNECTED."""
        if self.stopping or not self._move(Event.DIAL, now):
            return []
        self._clear()
        self.next_dial = None
        return [Dial()]

    def dial_failed(self, failure: DialFailure, now: float) -> list[Effect]:
        """The dial failed."""
        if self._move(Event.DIAL_FAILED, now):
            self._plan_dial(self._leaving or failure, now)
        return []

    def opened(self, hello: Mapping[str, Any], now: float) -> list[Effect]:
        """The WebSocket is open; `hello` is the payload of the agent's hello message."""
        if self.state is State.CLOSING:
            return [Abort(reason="the dial was overtaken")]
        if not self._move(Event.OPENED, now):
            return []
        self._deadline = now + self._timings.ack_timeout_secs
        self._last_received = now
        try:
            text = encode(messages.hello(hello, id=self._new_id(), timestamp=self._timestamp()))
        except UnencodableMessage as exc:
            failure = DialFailure(kind=FailureKind.LOCAL, detail=str(exc))
            return self._leave(failure, Close(code=1000, reason="no hello"), now)
        return [Send(text=text, kind=SendKind.CONTROL)]

    def received(self, frame: str | bytes, now: float) -> list[Effect]:
        """A text or binary frame arrived. Never raises because of its content."""
        if self.state not in (State.HELLO_SENT, State.READY) and not self._redialling():
            return []
        self._last_received = now
        self.frames_received += 1
        try:
            envelope = decode(frame, max_bytes=self._max_frame_bytes)
        except MalformedFrame as exc:
            self.malformed_frames += 1
            return [Ignored(reason=str(exc), malformed=True)]
        if self.state is State.HELLO_SENT:
            return self._received_early(envelope, now)
        if envelope.type == messages.TELEMETRY_ACK:
            return [_acknowledged(envelope)]
        if self.state is State.CLOSING:
            own = envelope.type in (messages.PING, messages.PONG, messages.HELLO_ACK)
            return [] if own else [Deliver(envelope=envelope)]
        match envelope.type:
            case messages.PING:
                return [self._pong(envelope.id)]
            case messages.PONG:
                self._measure(envelope.id, now)
                return []
            case messages.HELLO_ACK:
                return [Ignored(reason="a second hello_ack", malformed=False)]
            case _:
                return [Deliver(envelope=envelope)]

    def peer_alive(self, now: float) -> list[Effect]:
        """The peer is alive, though no frame was read: the agent itself is too busy to read."""
        self._last_received = now
        return []

    def heartbeat_ready(self, payload: Mapping[str, Any] | None, now: float) -> list[Effect]:
        """The heartbeat payload was collected; None when that failed."""
        if self.state is not State.READY or not self._gathering:
            return []
        self._gathering = False
        if payload is None:
            return []
        envelope = messages.heartbeat(payload, id=self._new_id(), timestamp=self._timestamp())
        try:
            text = encode(envelope)
        except UnencodableMessage as exc:
            return [Ignored(reason=str(exc), malformed=False)]
        while len(self._awaited) >= HEARTBEATS_AWAITED_MAX:
            del self._awaited[next(iter(self._awaited))]
        self._awaited[envelope.id] = now
        return [Send(text=text, kind=SendKind.HEARTBEAT)]

    def closed(self, code: int, reason: str, now: float) -> list[Effect]:
        """The socket is closed; code 1006 when no close frame was received."""
        lost = self._lost(reason or f"close code {code}", now)
        if not self._move(Event.CLOSED, now):
            return []
        failure = self._leaving or DialFailure(kind=FailureKind.CLOSE, code=code, detail=reason)
        self._plan_dial(failure, now)
        return lost

    def redial(self, reason: str, now: float) -> list[Effect]:
        """Close a READY connection and dial a new one, for example to use new certificates."""
        if self.state is not State.READY:
            return []
        failure = DialFailure(kind=FailureKind.REDIAL, detail=reason)
        return self._leave(failure, Close(code=1000, reason=reason), now)

    def shutdown(self, now: float) -> list[Effect]:
        """Close the connection permanently; the session does not dial again."""
        self.stopping = True
        self.next_dial = None
        failure = DialFailure(kind=FailureKind.REDIAL, detail=STOP_REASON)
        if self.state is State.CONNECTING:
            return self._leave(failure, Abort(reason=STOP_REASON), now)
        return self._leave(failure, Close(code=1000, reason=STOP_REASON), now)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed. Call it at `next_deadline`; calling it at other times is harmless."""
        match self.state:
            case State.DISCONNECTED:
                return self.dial(now) if self.next_dial is not None and now >= self.next_dial else []
            case State.HELLO_SENT if self._deadline is not None and now >= self._deadline:
                failure = _network(f"no hello_ack within {self._timings.ack_timeout_secs:g} s")
                return self._leave(failure, Abort(reason=failure.detail), now)
            case State.CLOSING if self._deadline is not None and now >= self._deadline:
                self._deadline = None
                return [Abort(reason="the peer did not close in time")]
            case State.READY:
                return self._tick_ready(now)
            case _:
                return []

    def next_deadline(self, now: float) -> float | None:
        """When `tick` is due, on the clock of `now`, possibly in the past; None when no deadline is set."""
        match self.state:
            case State.DISCONNECTED:
                return self.next_dial
            case State.HELLO_SENT | State.CLOSING:
                return self._deadline
            case State.READY:
                return min(self._silence_ends(), self._next_heartbeat)
            case State.CONNECTING:
                return None

    # Helpers

    def _received_early(self, envelope: Envelope, now: float) -> list[Effect]:
        if envelope.type == messages.PING:
            if len(self._early_pings) < EARLY_PINGS_MAX:
                self._early_pings.append(envelope.id)
            return []
        if envelope.type != messages.HELLO_ACK:
            return [Ignored(reason="a message before hello_ack", malformed=False)]
        ack = messages.parse_hello_ack(envelope.payload)
        if not ack.accepted:
            failure = DialFailure(kind=FailureKind.REFUSED_HELLO, detail=ack.reason)
            return self._leave(failure, Close(code=1000, reason="hello was refused"), now)
        self._move(Event.ACCEPTED, now)
        self._deadline = None
        self._ready_since = now
        self.verdict = None
        self.interval = ack.heartbeat_interval_secs or self._configured_interval
        pongs: list[Effect] = [self._pong(ping_id) for ping_id in self._early_pings]
        return [Ready(ack=ack), *pongs, self._request_heartbeat(now)]

    def _tick_ready(self, now: float) -> list[Effect]:
        if now >= self._silence_ends():
            failure = _network(f"nothing was heard for {now - self._last_received:.0f} s")
            return self._leave(failure, Abort(reason=failure.detail), now)
        if now < self._next_heartbeat:
            return []
        if self._gathering:  # the payload is late: skip this heartbeat
            self._next_heartbeat = now + self.interval
            return []
        return [self._request_heartbeat(now)]

    def _redialling(self) -> bool:
        # The control plane sends a command at most once, so commands that arrive during our close still count.
        leaving = self._leaving
        return (
            self.state is State.CLOSING
            and not self.stopping
            and leaving is not None
            and leaving.kind is FailureKind.REDIAL
        )

    def _silence_ends(self) -> float:
        return self._last_received + self._timings.silent_intervals * self.interval

    def _request_heartbeat(self, now: float) -> Effect:
        self._gathering = True
        self._next_heartbeat = now + self.interval
        return RequestHeartbeat()

    def _pong(self, ping_id: str) -> Effect:
        return Send(text=encode(messages.pong(ping_id, timestamp=self._timestamp())), kind=SendKind.CONTROL)

    def _measure(self, pong_id: str, now: float) -> None:
        sent = self._awaited.pop(pong_id, None)
        if sent is None and len(self._awaited) == 1:
            # The peer gave its pong a new id. With one heartbeat unanswered, the pong belongs to it.
            _, sent = self._awaited.popitem()
        if sent is not None:
            self.round_trip_secs = max(0.0, now - sent)

    def _leave(self, failure: DialFailure, effect: Close | Abort, now: float) -> list[Effect]:
        lost = self._lost(failure.detail, now)
        if not self._move(Event.LEAVE, now):
            return []
        self._leaving = failure
        self._deadline = now + self._timings.close_timeout_secs if isinstance(effect, Close) else None
        return [*lost, effect]

    def _lost(self, reason: str, now: float) -> list[Effect]:
        if self.state is not State.READY or self._ready_since is None:
            return []
        self._ready_for, self._ready_since = now - self._ready_since, None
        self.round_trip_secs = None
        return [Lost(reason=reason)]

    def _plan_dial(self, failure: DialFailure, now: float) -> None:
        self.failure = failure
        self.verdict = classify(failure)
        delay = self._backoff.delay(self.verdict, ready_for_secs=self._ready_for)
        self.next_dial = None if self.stopping else now + delay

    def _move(self, event: Event, now: float) -> bool:
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            return False
        self.state, self.state_since = target, now
        return True


def _acknowledged(envelope: Envelope) -> Effect:
    ack = messages.parse_telemetry_ack(envelope.payload)
    if ack is None:
        return Ignored(reason="a telemetry_ack without batch_id or accepted", malformed=True)
    return Acknowledged(ack=ack)


def _network(detail: str) -> DialFailure:
    return DialFailure(kind=FailureKind.NETWORK, detail=detail)
