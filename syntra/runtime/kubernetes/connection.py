"""One connection to the API server: TLS, a proxy if there is one, and one request at a time.

Foreign exceptions are translated here. The callers set the deadlines. After an error or a cancellation the connection
must be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque

from syntra.runtime.kubernetes.access import Address
from syntra.runtime.kubernetes.errors import ClusterUnavailable
from syntra.utils.http1 import Data, End, Event, Head, ResponseParser, encode_request

READ_BYTES = 64 * 1024
# client-go's: without it, a watch waits for ever for a server that vanished.
KEEPALIVE_SECS = 30
KEEPALIVE_PROBES = 3


class ApiConnection:
    """Use `open`, then `close` in a finally block."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._parser = ResponseParser("GET")
        self._events: deque[Event] = deque()
        self._has_ended = True
        self.idle_since = 0.0

    @classmethod
    async def open(cls, address: Address) -> ApiConnection:
        """Connect; raises ClusterUnavailable. Cancelling leaves no connection open."""
        host, port = address.proxy or (address.host, address.port)
        direct = address.tls if address.proxy is None else None
        name = (address.server_name or address.host) if direct is not None else None
        try:
            reader, writer = await asyncio.open_connection(
                host, port, ssl=direct, server_hostname=name, limit=READ_BYTES
            )
        except OSError as exc:
            raise ClusterUnavailable(address.authority, _reason(exc)) from exc
        connection = cls(address, reader, writer)
        try:
            _keep_alive(writer.get_extra_info("socket"))
            if address.proxy is not None:
                await connection._through_proxy()
        except BaseException:
            writer.transport.abort()
            raise
        return connection

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow: the response was read completely, and neither side has closed."""
        return (
            self._has_ended and self._parser.keep_alive and not self._writer.is_closing() and not self._reader.at_eof()
        )

    @property
    def has_answered(self) -> bool:
        """Whether a byte of the current response has arrived."""
        return self._parser.started

    async def request(self, encoded: bytes, *, method: str) -> Head:
        """Send an encoded request and read the head of the response."""
        self._parser = ResponseParser(method)
        self._events.clear()
        self._has_ended = False
        # A connection that breaks during sending may still deliver a response.
        with contextlib.suppress(OSError):
            self._writer.write(encoded)
            await self._writer.drain()
        event = await self._next()
        assert isinstance(event, Head), "a response begins with its head"
        return event

    async def read(self) -> bytes:
        """The next bytes of the body, b"" at its end. Raises ClusterUnavailable when the connection breaks."""
        while not self._has_ended:
            match await self._next():
                case Data(payload=payload):
                    return payload
                case End():
                    self._has_ended = True
        return b""

    async def close(self) -> None:
        """Close at once; closes even when cancelled."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    def abort(self) -> None:
        """Close without waiting."""
        self._writer.transport.abort()

    async def _next(self) -> Event:
        while not self._events:
            if self._parser.failure is not None:
                raise self._lost(str(self._parser.failure))
            try:
                chunk = await self._reader.read(READ_BYTES)
            except OSError as exc:
                raise self._lost(_reason(exc)) from exc
            self._events.extend(self._parser.feed(chunk) if chunk else self._parser.feed_eof())
        return self._events.popleft()

    async def _through_proxy(self) -> None:
        """Open a tunnel (RFC 9110 section 9.3.6), and TLS inside it."""
        authority = self._address.authority
        self._writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            if head.split(b" ", 2)[1:2] != [b"200"]:
                refusal = head.partition(b"\r\n")[0].decode("latin-1")
                raise ClusterUnavailable(authority, f"the proxy refused the connection ({refusal})")
            if self._address.tls is not None:
                name = self._address.server_name or self._address.host
                await self._writer.start_tls(self._address.tls, server_hostname=name)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
            reason = _reason(exc) if isinstance(exc, OSError) else "the proxy closed the connection"
            raise ClusterUnavailable(authority, reason) from exc

    def _lost(self, reason: str) -> ClusterUnavailable:
        return ClusterUnavailable(self._address.authority, reason, sent=True)


def encode(address: Address, method: str, target: str, headers: dict[str, str], body: bytes | None) -> bytes:
    """Encode a request to the API server."""
    return encode_request(method, address.path + target, {"Host": address.authority, **headers}, body)


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        sock.setsockopt(socket.IPPROTO_TCP, option, KEEPALIVE_SECS)
    # The reads of logs have no deadline of their own: this ends them two minutes after the server has vanished.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def _reason(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message})"
    return (exc.strerror or str(exc) or type(exc).__name__).lower()
