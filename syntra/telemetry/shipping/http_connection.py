"""One kept-alive HTTP/1.1 connection to an OTLP endpoint: a request at a time, with an answer of limited size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Self

import h11

from syntra.telemetry.shipping.endpoint import Endpoint
from syntra.utils.frozen import frozen

ANSWER_MAX = 4 * 1024 * 1024
"""The OTLP specification limits answers to this."""


@frozen
class Answer:
    """A complete answer. `headers` has the last value of each name, in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """A header's value."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None


class ConnectionEnded(ConnectionError):
    """The peer closed the connection, or broke HTTP. `is_stale`: before the first byte of an answer."""

    def __init__(self, reason: str, *, is_stale: bool = False) -> None:
        super().__init__(reason)
        self.is_stale = is_stale


class HttpConnection(asyncio.Protocol):
    """Made by `open`. Without streams: the bytes of an answer are parsed as they come, also after a failed write."""

    def __init__(self) -> None:
        self._peer = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._response: h11.Response | None = None
        self._body = bytearray()
        self._received = False

    @classmethod
    async def open(cls, endpoint: Endpoint, tls: ssl.SSLContext | None) -> Self:
        """Connect; the caller sets a deadline. Raises OSError, also for TLS failures."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, endpoint.host, endpoint.port, ssl=tls)
        return connection

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and self._answer is None and self._peer.our_state is h11.IDLE

    async def post(self, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
        """Send a request and wait for its answer; the caller sets a deadline. Raises ConnectionEnded.

        Cancelling closes the connection.
        """
        if self._transport is None:
            raise ConnectionEnded("the connection was closed", is_stale=True)
        peer = self._peer
        head = peer.send(h11.Request(method="POST", target=target, headers=list(headers))) or b""
        # Content-Length frames the body, so h11 adds nothing to it.
        peer.send(h11.Data(data=body))
        peer.send(h11.EndOfMessage())
        self._answer = asyncio.get_running_loop().create_future()
        self._response, self._received = None, False
        self._body.clear()
        self._transport.write(head + body)
        try:
            return await self._answer
        finally:
            self._answer = None
            # Bytes behind the answer would be taken for the next one.
            is_over = self._peer.our_state is h11.DONE and self._peer.their_state is h11.DONE
            if is_over and not self._peer.trailing_data[0]:
                self._peer.start_next_cycle()
            else:
                self.close()

    def close(self) -> None:
        """Close at once; a request that waits for its answer ends with ConnectionEnded."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's callback."""
        assert isinstance(transport, asyncio.Transport), "cannot happen: create_connection makes a stream"
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio's callback."""
        if self._answer is None:
            # Often a 408 before an idle connection is closed; it answers nothing that was asked.
            self.close()
            return
        self._received = True
        self._feed(data)

    def eof_received(self) -> bool:
        """asyncio's callback."""
        self._feed(b"")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's callback."""
        self._transport = None
        self._fail(str(exc) if exc else "the peer closed the connection")

    def _feed(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.done():
            return
        try:
            self._peer.receive_data(data)
            while not answer.done():
                event = self._peer.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._take(event, answer)
        except h11.RemoteProtocolError as exc:
            self._fail(str(exc) if data else "the peer closed the connection")

    def _take(self, event: object, answer: asyncio.Future[Answer]) -> None:
        match event:
            case h11.Response():
                self._response = event
            case h11.Data():
                self._body += event.data
                if len(self._body) > ANSWER_MAX:
                    self._fail(f"its answer is larger than {ANSWER_MAX} bytes")
                    self.close()
            case h11.EndOfMessage() if self._response is not None:
                headers = dict(self._response.headers)
                answer.set_result(Answer(status=self._response.status_code, headers=headers, body=bytes(self._body)))
            case h11.ConnectionClosed():
                self._fail("the peer closed the connection")

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionEnded(reason, is_stale=not self._received))
