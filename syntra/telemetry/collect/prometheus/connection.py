"""A kept-alive connection to a target: one GET at a time, the caller sets the deadline."""

from __future__ import annotations

import asyncio
import ssl
from typing import Self

from syntra.telemetry.collect.prometheus.answer import Answer, BadAnswer
from syntra.utils.frozen import frozen


@frozen
class Address:
    """Where a target listens, and how a URL writes it."""

    host: str
    port: int
    is_tls: bool

    @property
    def authority(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.is_tls else "http"


class Stale(ConnectionError):
    """The connection ended before the first byte of an answer: a kept-alive one may simply be too old."""


class Connection(asyncio.Protocol):
    """Made by `open`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, address: Address, tls: ssl.SSLContext | None) -> Self:
        """Connect; raises OSError, also for TLS."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, address.host, address.port, ssl=tls)
        return connection

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def get(self, request: bytes, max_body: int) -> Answer:
        """Send an encoded request; returns the complete answer. Cancelling closes the connection.

        Raises Stale, another OSError and BadAnswer.
        """
        if self._transport is None:
            raise Stale("the target closed the connection")
        self._answer = Answer(max_body)
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._done = done
        self._transport.write(request)
        try:
            answer = await done
        except BaseException:
            self.close()
            raise
        finally:
            self._done = self._answer = None
        if not answer.keeps_open:
            self.close()
        return answer

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's callback."""
        assert isinstance(transport, asyncio.Transport), "cannot happen: create_connection makes a stream"
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio's callback."""
        answer, done = self._answer, self._done
        if answer is None or done is None or done.done():
            # It answers nothing that was asked.
            self.close()
            return
        try:
            answer.feed(data)
        except BadAnswer as wrong:
            done.set_exception(wrong)
            return
        if answer.is_done:
            done.set_result(answer)

    def eof_received(self) -> bool:
        """asyncio's callback."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's callback."""
        self._transport = None
        answer, done = self._answer, self._done
        if answer is None or done is None or done.done():
            return
        if exc is not None or not answer.status:
            done.set_exception(Stale(str(exc) if exc else "the target closed the connection without an answer"))
            return
        try:
            answer.end()
        except BadAnswer as cut:
            done.set_exception(cut)
            return
        done.set_result(answer)
