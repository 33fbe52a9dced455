"""The two halves of a connection without a network: a control plane that is a pure function, and virtual time.

`Pair` performs a session's effects against a `ControlPlane` and moves the clock from deadline to deadline. It also
keeps the promises of the session as assertions: one dial and one socket at a time, nothing but hello before hello_ack,
`Ready` and `Lost` in turn.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from syntra.connection.effects import (
    Abort,
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
from syntra.connection.retry import Backoff, DialFailure, FailureKind
from syntra.connection.session import Session, State
from syntra.connection.settings import Timings

HELLO = {"agent_id": "agt_1", "server_id": "srv_1"}


def frame(type_: str, payload: dict[str, Any] | None = None, *, id: str = "cp-1") -> str:
    return json.dumps({"id": id, "type": type_, "timestamp": "2026-01-01T00:00:00Z", "payload": payload or {}})


def make_session(
    *, interval: float = 30.0, uniform: Callable[[float, float], float] = lambda low, high: high
) -> Session:
    ids = itertools.count(1)
    return Session(
        backoff=Backoff(uniform=uniform),
        new_id=lambda: f"id-{next(ids)}",
        timestamp=lambda: "2026-01-01T00:00:00Z",
        heartbeat_interval_secs=interval,
        timings=Timings(),
    )


@dataclass
class ControlPlane:
    """The other half: what it was sent, and what it answers. Its behaviour is chosen by its attributes."""

    ack: dict[str, Any] | None = field(default_factory=lambda: {"accepted": True})
    answers_heartbeats: bool = True
    endpoints: bool = True
    closes_when_asked: bool = True
    heard: list[dict[str, Any]] = field(default_factory=list)

    def received(self, text: str) -> list[str]:
        message = json.loads(text)
        assert set(message) == {"id", "type", "timestamp", "payload"}
        self.heard.append(message)
        if message["type"] == "agent_hello" and self.ack is not None:
            return [frame("hello_ack", self.ack)]
        if message["type"] == "heartbeat" and self.answers_heartbeats:
            return [frame("pong", id=message["id"])]
        return []

    def types(self) -> list[str]:
        return [message["type"] for message in self.heard]


class Pair:
    """A session and its control plane, driven against each other."""

    def __init__(self, session: Session, peer: ControlPlane, *, latency: float = 0.0) -> None:
        self.session = session
        self.peer = peer
        self.latency = latency
        self.now = 1000.0
        self.dials: list[float] = []
        self.delivered: list[str] = []
        self.log: list[Effect] = []
        self.socket = False
        self.ready = False

    def run(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self.log.append(effect)
            match effect:
                case Dial():
                    assert not self.socket, "dialled while a socket was open"
                    self.dials.append(self.now)
                    if self.peer.endpoints:
                        self.socket = True
                        self.run(self.session.opened(HELLO, self.now))
                    else:
                        failure = DialFailure(kind=FailureKind.NETWORK, detail="connection refused")
                        self.run(self.session.dial_failed(failure, self.now))
                case Send(text=text, kind=kind):
                    assert self.socket
                    type_ = json.loads(text)["type"]
                    assert self.ready or type_ == "agent_hello"
                    assert (type_ == "heartbeat") is (kind is SendKind.HEARTBEAT)
                    answers = self.peer.received(text)
                    self.now += self.latency
                    for answer in answers:
                        self.receive(answer)
                case Deliver(envelope=envelope):
                    self.delivered.append(envelope.type)
                case Ready():
                    assert not self.ready
                    self.ready = True
                case Lost():
                    assert self.ready
                    self.ready = False
                case RequestHeartbeat():
                    self.run(self.session.heartbeat_ready({"agent_id": "agt_1"}, self.now))
                case Close(code=code, reason=reason):
                    if self.peer.closes_when_asked:
                        self.lose(code, reason)
                case Abort():
                    self.lose(1006, "")
                case Ignored():
                    pass

    def state(self) -> State:
        return self.session.state

    def start(self) -> Pair:
        self.run(self.session.dial(self.now))
        return self

    def receive(self, text: str | bytes) -> None:
        assert self.socket
        self.run(self.session.received(text, self.now))

    def lose(self, code: int = 1006, reason: str = "") -> None:
        self.socket = False
        self.run(self.session.closed(code, reason, self.now))

    def pass_time(self, secs: float) -> None:
        """Move the clock through every deadline on the way."""
        end = self.now + secs
        for _ in range(100_000):
            deadline = self.session.next_deadline(self.now)
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.run(self.session.tick(self.now))
        else:
            raise AssertionError("the session asks to be woken without end")
        self.now = max(self.now, end)
        self.run(self.session.tick(self.now))

    def count(self, kind: type[Effect]) -> int:
        return sum(isinstance(effect, kind) for effect in self.log)
