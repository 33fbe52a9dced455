"""The server side of one WebSocket over asyncio streams, on the sans-I/O protocol of the websockets library.

One task owns a socket: it receives, and calls `finish` at the end. Any task may send or begin to close.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from syntra.controlplane.settings import Timings
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

# At DEBUG the library logs whole frames, which contain registry passwords.
_PROTOCOL_LOGGER = logging.getLogger(f"{__name__}.protocol")
_PROTOCOL_LOGGER.setLevel(logging.WARNING)

_READ_BYTES = 64 * 1024


class WebSocketClosed(AgentError):
    """The connection is closed or closing. `close_code` 1006 means that it was lost without a closing handshake."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(f"cannot use the connection: it closed with {close_code} {reason}".rstrip())
        self.close_code = close_code
        self.reason = reason


class NotSent(WebSocketClosed):
    """Nothing of the message was written, so it may be sent again or queued."""


@frozen
class Received:
    """One message. `is_binary` is its type; text is not checked to be UTF-8."""

    data: bytes
    is_binary: bool


def handshake(path: str, headers: list[tuple[str, str]], method: str, version: str) -> Response:
    """The response to an upgrade request; 101 accepts it. No extensions: telemetry is compressed already."""
    request = Request(path, Headers(headers), method, f"HTTP/{version}")
    return ServerProtocol(logger=_PROTOCOL_LOGGER).accept(request)


class WebSocket:
    """An open WebSocket for messages of at most `max_bytes`. `buffered` was read after the upgrade request."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        buffered: bytes,
        max_bytes: int,
        timings: Timings,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._timings = timings
        self._protocol = ServerProtocol(state=State.OPEN, max_size=max_bytes, logger=_PROTOCOL_LOGGER)
        self._messages: deque[Received] = deque()
        self._fragments = bytearray()
        self._is_binary = False
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._last_received = self._loop.time()
        self._abort_timer: asyncio.TimerHandle | None = None
        self._ping_timer = self._loop.call_later(timings.ping_interval, self._ping)
        if buffered:
            self._take(buffered)

    @property
    def is_open(self) -> bool:
        """Whether a message can be sent, because no close was sent or received."""
        return self._protocol.state is State.OPEN and not self._writer.is_closing()

    async def receive(self) -> Received:
        """The next message. Raises WebSocketClosed. Cancel-safe; for the owner only."""
        while not self._messages:
            if self._ended:
                code, reason = self._close()
                raise WebSocketClosed(code, reason)
            await self._read()
        return self._messages.popleft()

    async def send(self, text: str) -> None:
        """Write one text message and wait until the transport has room again. The peer may not have received it.

        Raises NotSent when nothing was written, and WebSocketClosed when the message may or may not have arrived.
        """
        if not self.is_open:
            code, reason = self._close()
            raise NotSent(code, reason)
        self._protocol.send_text(text.encode())
        self._flush()
        try:
            async with asyncio.timeout(self._timings.write):
                await self._writer.drain()
        except (TimeoutError, OSError) as exc:
            self._abort()
            raise WebSocketClosed(1006, "the peer does not read" if isinstance(exc, TimeoutError) else "lost") from exc

    def begin_close(self, code: int, reason: str) -> None:
        """Send a close frame. For the owner the connection then ends, at the latest after the close deadline."""
        if self._protocol.state is State.OPEN:
            # A close frame holds at most 123 bytes of reason.
            self._protocol.send_close(code, reason.encode()[:120].decode(errors="ignore"))
            self._flush()
            self._arm_abort()

    async def finish(self) -> None:
        """Close, and discard all input until the peer has closed. The owner always calls this at the end.

        Takes at most the close deadline. When cancelled, it aborts the transport. The caller closes the streams.
        """
        try:
            self.begin_close(4000, "connection error")
            self._arm_abort()
            while not self._ended:
                await self._read()
                self._messages.clear()
        finally:
            self._ping_timer.cancel()
            if self._abort_timer is not None:
                self._abort_timer.cancel()
            if not self._ended:
                self._abort()

    async def _read(self) -> None:
        try:
            data = await self._reader.read(_READ_BYTES)
        except OSError:
            data = b""
        self._take(data)

    def _take(self, data: bytes) -> None:
        if data:
            self._last_received = self._loop.time()
            self._protocol.receive_data(data)
        else:
            self._ended = True
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if event.opcode is not Opcode.CONT:
                    self._is_binary = event.opcode is Opcode.BINARY
                self._fragments += event.data
                if event.fin:
                    self._messages.append(Received(data=bytes(self._fragments), is_binary=self._is_binary))
                    self._fragments.clear()
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data != SEND_EOF:
                self._writer.write(data)
            elif self._writer.can_write_eof() and not self._writer.is_closing():
                # Half-close, and read until the peer closes too. Closing now would reset the connection while the peer
                # still sends, and the peer would lose the close frame.
                with contextlib.suppress(OSError):
                    self._writer.write_eof()
                self._arm_abort()
            else:
                self._writer.close()

    def _ping(self) -> None:
        now = self._loop.time()
        if now - self._last_received > self._timings.ping_interval + self._timings.ping_timeout:
            self._abort()
            return
        if self.is_open:
            self._protocol.send_ping(b"")
            self._flush()
        self._ping_timer = self._loop.call_later(self._timings.ping_interval, self._ping)

    def _arm_abort(self) -> None:
        if self._abort_timer is None:
            self._abort_timer = self._loop.call_later(self._timings.close, self._abort)

    def _abort(self) -> None:
        self._writer.transport.abort()

    def _close(self) -> tuple[int, str]:
        close = self._protocol.close_rcvd or self._protocol.close_sent
        return (int(close.code), close.reason) if close else (1006, "lost")
