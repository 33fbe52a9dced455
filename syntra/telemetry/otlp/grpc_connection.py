"""One connection of a gRPC sender: asyncio's transport on one side, HTTP/2 and the handler on the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from time import monotonic
from typing import Any, cast

from syntra.telemetry.intake import Source
from syntra.telemetry.otlp.grpc_call import Answer
from syntra.telemetry.otlp.grpc_handler import ExportHandler, Reading, Refused
from syntra.telemetry.otlp.grpc_limits import GrpcLimits
from syntra.telemetry.otlp.http2.connection import Http2Connection
from syntra.telemetry.otlp.http2.events import (
    DataReceived,
    Event,
    RequestEnded,
    RequestStarted,
    StreamReset,
)
from syntra.telemetry.otlp.http2.frames import ErrorCode

log = logging.getLogger(__name__)

READ_BYTES = 1 << 18
WRITE_BYTES = 1 << 16
"""While more than this waits for the sender to read, nothing is read from it."""


class Connections:
    """The connections of one address."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[GrpcConnection] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self.refused = 0
        """Connections over the limit."""

    def __iter__(self) -> Iterator[GrpcConnection]:
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: GrpcConnection) -> bool:
        """Count a connection in; False when there are too many."""
        if len(self._open) >= self._limit:
            self.refused += 1
            return False
        self._open.add(connection)
        self._is_empty.clear()
        return True

    def discard(self, connection: GrpcConnection) -> None:
        """Count it out."""
        self._open.discard(connection)
        if not self._open:
            self._is_empty.set()

    async def ended(self) -> None:
        """Wait until there is none."""
        await self._is_empty.wait()


Start = Callable[[Coroutine[Any, Any, None]], None]


class GrpcConnection(asyncio.BufferedProtocol):
    """Belongs to the event loop. `buffer` may be shared: its content is used up before the loop reads again."""

    def __init__(
        self,
        handler: ExportHandler,
        limits: GrpcLimits,
        buffer: memoryview,
        start: Start,
        connections: Connections,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._buffer = buffer
        self._start = start
        self._connections = connections
        self._http2 = Http2Connection(limits.http2)
        self._readings: dict[int, Reading] = {}
        self._source = Source(address="", transport="grpc")
        # Answers that wait for flow control, and since when.
        self._blocked: dict[int, float] = {}
        self._flush_is_due = False
        self._opened_at = self._heard_at = monotonic()
        self._pinged_at: float | None = None
        self._stuck_since: float | None = None
        self._transport: asyncio.Transport | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the sender, or cut it off when there are too many."""
        self._transport = made = cast(asyncio.Transport, transport)
        if not self._connections.add(self):
            made.abort()
            return
        made.set_write_buffer_limits(high=WRITE_BYTES)
        peer = made.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._source = Source(address=str(peer[0]), transport="grpc")
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop reads into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._heard_at = monotonic()
        self._pinged_at = None
        for event in self._http2.receive(self._buffer[:nbytes]):
            self._take(event)
        self._flush()

    def eof_received(self) -> bool:
        """A sender that has closed its half is gone."""
        return False

    def pause_writing(self) -> None:
        """The sender reads too little: do not let it send more."""
        if self._transport is not None:
            self._transport.pause_reading()
        self._stuck_since = monotonic()

    def resume_writing(self) -> None:
        """It reads again."""
        self._stuck_since = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was on its way. Requests that are complete are processed anyway."""
        self._connections.discard(self)
        self._transport = None
        for reading in self._readings.values():
            self._handler.drop(reading)
        self._readings.clear()

    # The receiver's side

    def go_away(self) -> None:
        """Take no more requests, and close when those under way are answered."""
        self._http2.go_away()
        self._flush()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def second_passed(self, now: float) -> None:
        """Enforce the deadlines."""
        limits = self._limits
        self._http2.second_passed()
        for stream, reading in list(self._readings.items()):
            late = self._handler.expire(reading, now)
            if late is not None:
                del self._readings[stream]
                self._respond(stream, late)
        if self._is_overdue(now):
            self.abort()
            return
        if self._pinged_at is None and now > self._heard_at + limits.silence_secs:
            self._pinged_at = now
            self._http2.ping()
        self._blocked = {stream: self._blocked.get(stream, now) for stream in self._http2.blocked}
        for stream, since in self._blocked.items():
            if now > since + limits.write_secs:
                self._http2.reset(stream, ErrorCode.CANCEL)
        self._flush()

    def _is_overdue(self, now: float) -> bool:
        limits = self._limits
        if not self._http2.is_established:
            return now > self._opened_at + limits.handshake_secs
        if self._stuck_since is not None and now > self._stuck_since + limits.write_secs:
            return True
        return self._pinged_at is not None and now > self._pinged_at + limits.pong_secs

    # Requests

    def _take(self, event: Event) -> None:
        match event:
            case DataReceived(stream, data):
                self._data(stream, data)
            case RequestEnded(stream):
                reading = self._readings.pop(stream, None)
                if reading is not None:
                    self._start(self._work(stream, reading))
            case RequestStarted(stream, head):
                try:
                    self._readings[stream] = self._handler.begin(head)
                except Refused as refused:
                    self._respond(stream, refused.answer)
            case StreamReset(stream):
                reading = self._readings.pop(stream, None)
                if reading is not None:
                    self._handler.drop(reading)

    def _data(self, stream: int, data: memoryview) -> None:
        reading = self._readings.get(stream)
        if reading is None:
            # It was refused; the rest was on its way.
            return
        try:
            self._handler.feed(reading, data)
        except Refused as refused:
            del self._readings[stream]
            self._respond(stream, refused.answer)

    async def _work(self, stream: int, reading: Reading) -> None:
        self._respond(stream, await self._handler.finish(reading, self._source))

    def _respond(self, stream: int, answer: Answer) -> None:
        self._http2.respond(stream, *answer)
        if not self._http2.has_streams:
            # The common sender waits for this answer; another cycle of the loop would cost a system call.
            self._flush()
        elif not self._flush_is_due:
            # Answers of the same cycle share a write.
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        output = self._http2.take_output()
        if output:
            transport.write(output)
        if self._http2.fault is not None:
            log.debug("grpc connection failed", extra={"reason": str(self._http2.fault)})
            transport.close()
        elif self._http2.is_going_away and not self._http2.has_streams:
            transport.close()
