"""A peer that writes and reads single frames, for everything that no HTTP/2 library would send."""

from __future__ import annotations

from typing import NamedTuple

from hpack import Encoder

from syntra.telemetry.otlp.http2 import frames
from syntra.telemetry.otlp.http2.connection import Http2Connection
from syntra.telemetry.otlp.http2.events import DataReceived, Event, RequestEnded, RequestStarted
from syntra.telemetry.otlp.http2.frames import HEAD, PREFACE, ErrorCode, frame
from syntra.telemetry.otlp.http2.limits import Http2Limits

POST = ((":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "agent"))


class Sent(NamedTuple):
    """A frame that the server sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> ErrorCode:
        """Why a stream or the connection ended."""
        at = 4 if self.kind == frames.GOAWAY else 0
        return ErrorCode(int.from_bytes(self.payload[at : at + 4], "big"))


class Peer:
    """A connection to a server that has got preface and settings."""

    def __init__(self, limits: Http2Limits | None = None, *, greets: bool = True) -> None:
        self.server = Http2Connection(limits)
        self.events: list[Event] = []
        self.encoder = Encoder()
        if greets:
            self.send(PREFACE + frames.settings({}))
            self.sent()

    def send(self, data: bytes) -> list[Event]:
        """Pass bytes to the server; returns what it makes of them."""
        events = [copied(event) for event in self.server.receive(data)]
        self.events += events
        return events

    def request(self, stream: int, *, ends: bool = False, fields: tuple[tuple[str, str], ...] = POST) -> list[Event]:
        """Send the headers of a request."""
        flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
        return self.send(frame(frames.HEADERS, flags, stream, self.block(fields)))

    def block(self, fields: tuple[tuple[str, str], ...] = POST) -> bytes:
        """A header block."""
        return bytes(self.encoder.encode(fields))

    def data(self, stream: int, data: bytes, *, ends: bool = False) -> list[Event]:
        """Send a part of a body."""
        return self.send(frame(frames.DATA, frames.END_STREAM if ends else 0, stream, data))

    def sent(self) -> list[Sent]:
        """What the server has sent since the last call."""
        data = self.server.take_output()
        found = []
        while data:
            high, low, kind, flags, stream = HEAD.unpack_from(data)
            end = 9 + (high << 16 | low)
            found.append(Sent(kind, flags, stream, data[9:end]))
            data = data[end:]
        return found

    def goaway(self) -> ErrorCode | None:
        """The code of the GOAWAY among what the server has sent."""
        return next((sent.code for sent in self.sent() if sent.kind == frames.GOAWAY), None)

    def resets(self) -> dict[int, ErrorCode]:
        """The streams that the server has reset."""
        return {sent.stream: sent.code for sent in self.sent() if sent.kind == frames.RST_STREAM}


def copied(event: Event) -> Event:
    """An event that stays what it is after the next bytes."""
    if isinstance(event, DataReceived):
        return DataReceived(event.stream, memoryview(bytes(event.data)))
    return event


def bodies(events: list[Event]) -> dict[int, bytes]:
    """The complete requests and their bodies."""
    parts: dict[int, bytes] = {}
    complete: dict[int, bytes] = {}
    for event in events:
        match event:
            case RequestStarted(stream, _):
                parts[stream] = b""
            case DataReceived(stream, data):
                parts[stream] += bytes(data)
            case RequestEnded(stream):
                complete[stream] = parts.pop(stream)
    return complete
