"""One connection to the engine. This is the only module of the client that uses sockets.

The caller sets the deadlines of connecting and of the response head (`asyncio.timeout` around the call); body reads
take an idle deadline as argument. Foreign exceptions are translated here. After any error, and after any cancellation
except in `read_body` and `read_raw`, the connection must be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from syntra.runtime.docker.endpoint import Endpoint, TlsFiles
from syntra.runtime.docker.errors import (
    BadEndpoint,
    DockerError,
    EngineProtocolError,
    EngineTimeout,
    EngineUnreachable,
    StreamBroken,
)
from syntra.runtime.docker.raw_socket import RawSocket
from syntra.utils.http1 import Data, Event, FailureKind, Head, ResponseParser

READ_BYTES = 64 * 1024
"""Size of one read, and half of what the transport buffers before it stops reading."""
CLOSE_SECS = 1.0
"""How long to wait until the transport reports that it is closed; the socket itself is closed at once."""


class EngineConnection:
    """Handles one request at a time. Use `open`, then `close` in a finally block."""

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._parser = ResponseParser("GET")
        self._events: deque[Event] = deque()
        self._what = "the response"
        self._ended = True
        self._raw_rest = b""

    @classmethod
    async def open(cls, endpoint: Endpoint) -> EngineConnection:
        """Connect; raises EngineUnreachable. Cancelling leaves no connection open."""
        context = None if endpoint.tls is None else _tls_context(endpoint.tls)
        try:
            if endpoint.path is not None:
                reader, writer = await asyncio.open_unix_connection(endpoint.path, limit=READ_BYTES)
            else:
                reader, writer = await asyncio.open_connection(
                    endpoint.host, endpoint.port, ssl=context, limit=READ_BYTES
                )
                # Without keepalive, a log or event stream would wait for ever for a peer that vanished silently.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as exc:
            raise EngineUnreachable(endpoint.address, _reason(exc)) from exc
        return cls(endpoint, reader, writer)

    @property
    def response_started(self) -> bool:
        """Whether a byte of the current response has arrived."""
        return self._parser.started

    @property
    def upgraded(self) -> bool:
        """Whether the connection has become a raw stream."""
        return self._parser.upgraded

    @property
    def reusable(self) -> bool:
        """Whether another request may follow: the response was read completely and no bytes follow it."""
        return self._ended and self._parser.keep_alive and not self._raw_rest and not self._writer.is_closing()

    async def still_open(self) -> bool:
        """Whether an idle connection is still open, as far as this side knows.

        Waits two iterations of the loop: in the first it sees that the socket is readable, in the second it reads the
        end.
        """
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return not self._reader.at_eof() and self._reader.exception() is None and not self._writer.is_closing()

    async def request(self, encoded: bytes, *, method: str, what: str) -> Head:
        """Send one encoded request and read the response head; errors name `what`."""
        self.begin(encoded, method=method, what=what)
        # A connection that breaks during sending may still deliver a response.
        with contextlib.suppress(OSError):
            await self._writer.drain()
        return await self.read_head()

    def begin(self, encoded: bytes, *, method: str, what: str) -> None:
        """Send the head of a request; `send` its body, and `read_head` beside that: an engine may answer early."""
        assert self._ended and not self._events, "the previous response was read to its end"
        self._parser = ResponseParser(method)
        self._ended = False
        self._what = what
        self._writer.write(encoded)

    def send(self, data: bytes) -> None:
        """Send more of a request's body. Follow it with `drain`."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait while the engine does not take what was sent; raises OSError when the connection is gone."""
        await self._writer.drain()

    async def read_head(self) -> Head:
        """The head of the response."""
        while not self._events:
            await self._receive()
        head = self._events.popleft()
        assert isinstance(head, Head), "a response begins with its head"
        if self._parser.upgraded:
            self._ended = True
            self._raw_rest = self._parser.take_trailing()
        return head

    async def read_body(self, idle: float | None = None) -> bytes:
        """The next bytes of the body, b"" at its end. Cancelling loses no data.

        Raises StreamBroken when the connection drops, EngineTimeout after `idle` seconds without a byte.
        """
        while True:
            if self._events:
                event = self._events.popleft()
                if isinstance(event, Data):
                    return event.payload
                self._ended = True
                self._raw_rest = self._parser.take_trailing()
            if self._ended:
                return b""
            await self._under(idle, self._receive)

    async def leave_transport(self) -> RawSocket | None:
        """After an upgrade: the socket itself, for both directions. None with TLS, and when the engine has ended."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport), "a stream socket goes both ways"
        if not self.upgraded or self._endpoint.tls is not None:
            return None
        paused = False
        while True:
            # What the transport has read already; the reader resumes the transport when it was over its limit.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    while chunk := await self._read():
                        self._raw_rest += chunk
            if transport.is_closing() or self._reader.at_eof():
                return None
            if paused and not transport.is_reading():
                break
            transport.pause_reading()
            paused = True
        rest, self._raw_rest = self._raw_rest, b""
        return RawSocket(self._writer.get_extra_info("socket").fileno(), rest, what=self._what)

    async def read_raw(self, idle: float | None = None) -> bytes:
        """The next bytes after an upgrade, b"" when the engine has ended the stream. Cancelling loses no data."""
        if self._raw_rest:
            rest, self._raw_rest = self._raw_rest, b""
            return rest
        chunk = b""

        async def receive() -> None:
            nonlocal chunk
            chunk = await self._read()

        await self._under(idle, receive)
        return chunk

    async def write_raw(self, data: bytes) -> None:
        """Send bytes after an upgrade; waits while the engine does not read."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as exc:
            raise StreamBroken(self._what, _reason(exc)) from exc

    def write_eof(self) -> bool:
        """Close the sending direction after an upgrade; False when the transport (TLS) cannot."""
        if not self._writer.can_write_eof() or self._writer.is_closing():
            return False
        try:
            self._writer.write_eof()
        except OSError as exc:
            raise StreamBroken(self._what, _reason(exc)) from exc
        return True

    def abort(self) -> None:
        """Close at once, without waiting; unsent data is discarded."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close at once and wait briefly for the transport; closes even when cancelled."""
        self.abort()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECS):
                await self._writer.wait_closed()

    async def _under(self, idle: float | None, receive: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(idle):
                await receive()
        except TimeoutError as exc:
            assert idle is not None, "without a deadline nothing times out"
            raise EngineTimeout(f"read {self._what}", idle) from exc

    async def _receive(self) -> None:
        """Read once and feed the parser; raises the parser's failure after its events have been taken."""
        if self._parser.failure is None:
            chunk = await self._read()
            self._events.extend(self._parser.feed(chunk) if chunk else self._parser.feed_eof())
        if self._parser.failure is not None and not self._events:
            raise self._failure()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except OSError as exc:  # includes ETIMEDOUT; the callers' deadlines arrive here as cancellation
            raise self._lost(_reason(exc)) from exc

    def _lost(self, reason: str) -> DockerError:
        if self._parser.head_read:
            return StreamBroken(self._what, reason)
        return EngineUnreachable(self._endpoint.address, reason, sent=True)

    def _failure(self) -> DockerError:
        failure = self._parser.failure
        assert failure is not None, "asked only after a failure"
        match failure.kind:
            case FailureKind.NO_RESPONSE | FailureKind.HEAD_CUT:
                return EngineUnreachable(self._endpoint.address, str(failure), sent=True)
            case FailureKind.BODY_CUT:
                return StreamBroken(self._what, str(failure))
            case FailureKind.MALFORMED:
                return EngineProtocolError(self._what, str(failure))


def _reason(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message})"
    return (exc.strerror or str(exc) or type(exc).__name__).lower()


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    if files.directory is None:
        return ssl.create_default_context()
    paths = {name: files.path(name) for name in ("ca.pem", "cert.pem", "key.pem")}
    try:
        context = ssl.create_default_context(cafile=paths["ca.pem"] if Path(paths["ca.pem"]).exists() else None)
        if Path(paths["cert.pem"]).exists():
            context.load_cert_chain(paths["cert.pem"], paths["key.pem"])
    except (OSError, ValueError) as exc:
        step = "put ca.pem, cert.pem and key.pem there, readable by the agent"
        raise BadEndpoint(files.directory, f"its TLS files cannot be used ({exc})", step) from exc
    return context
