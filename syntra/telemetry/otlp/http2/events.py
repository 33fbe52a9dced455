"""What a connection tells its user. A stream that has ended must be answered exactly once."""

from __future__ import annotations

from typing import NamedTuple

from syntra.telemetry.otlp.http2.headers import RequestHead


class RequestStarted(NamedTuple):
    """The headers of a request are complete."""

    stream: int
    head: RequestHead


class DataReceived(NamedTuple):
    """A part of the body. It is a view of the bytes that were passed to `receive`: copy it before the next call."""

    stream: int
    data: memoryview


class RequestEnded(NamedTuple):
    """The request is complete."""

    stream: int


class StreamReset(NamedTuple):
    """The stream is over before it was answered, by the peer or because of its error. An answer is ignored."""

    stream: int


class PongReceived(NamedTuple):
    """The peer has answered a ping."""


Event = RequestStarted | DataReceived | RequestEnded | StreamReset | PongReceived
