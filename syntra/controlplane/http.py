"""One HTTP/1.1 connection over asyncio streams: h11 parses, this module reads, limits sizes, and keeps deadlines.

The head decides whether a request is refused before its body is read, so clients without a token cannot use up memory
with bodies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import field
from email.utils import formatdate
from typing import Protocol

import h11

from syntra.controlplane.connections import Place
from syntra.controlplane.framing import framing_fault
from syntra.controlplane.pages import json_bytes
from syntra.controlplane.settings import Limits, Timings
from syntra.utils.frozen import frozen

_log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_HEAD_BYTES = 16 * 1024

Headers = list[tuple[str, str]]


@frozen
class Head:
    """A request without its body. `target` is as received, with the query; header names are lower case."""

    method: str
    target: str
    version: str
    headers: Headers = field(repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def is_chunked(self) -> bool:
        """Whether the request has a Transfer-Encoding; h11 refuses all but `chunked`."""
        return any(key == "transfer-encoding" for key, _ in self.headers)

    def header(self, name: str) -> str | None:
        """The value of a header that occurs exactly once; None when it is absent or repeated."""
        values = [value for key, value in self.headers if key == name]
        return values[0] if len(values) == 1 else None


@frozen
class Response:
    """A JSON response. A `body` of bytes is JSON already."""

    status: int
    body: Mapping[str, object] | bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@frozen
class Upgrade:
    """A request to become a WebSocket, and the bytes received after it."""

    head: Head
    buffered: bytes


class Handler(Protocol):
    """What answers requests. No method may raise because of what a client sent."""

    def owner(self, head: Head) -> str | None:
        """The owner of the request's valid token; None when it has none. See `connections`."""

    def refusal(self, head: Head) -> Response | None:
        """A response when the head is enough to refuse the request; the body is then not read."""

    async def respond(self, head: Head, body: bytes) -> Response:
        """The response to a request. Cancelled when the server stops."""


class Refused(Exception):
    """Ends a request with an error response. Raised in this module, it ends the connection as well."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = error_response(status, code, message, headers)


class _ClientGone(Exception):
    """The client closed the connection or was idle, so there is nothing to answer."""


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as the API shows it."""
    return Response(status=status, body={"error": {"code": code, "message": message}}, headers=headers or {})


class HttpConnection:
    """Serves one client until it closes the connection, breaks the protocol, or asks for `upgrade_path`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: Handler,
        upgrade_path: str,
        place: Place,
        limits: Limits,
        timings: Timings,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._upgrade_path = upgrade_path
        self._place = place
        self._limits = limits
        self._timings = timings
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._ended = False

    async def serve(self) -> Upgrade | None:
        """Answer one request after another. On None the connection is over, and the caller closes the transport."""
        try:
            while True:
                try:
                    head = await self._head()
                    if head.path == self._upgrade_path:
                        # The bytes of a body would be read as frames. The handshake refuses other requests.
                        if head.is_chunked:
                            raise Refused(400, "BAD_REQUEST", "an upgrade has no body")
                        await self._body(head, 0)
                        return Upgrade(head=head, buffered=self._http.trailing_data[0])
                    owner = self._handler.owner(head)
                    if owner is not None and not self._place.claim(owner):
                        raise Refused(503, "TOO_MANY_CONNECTIONS", "too many connections; try again later")
                    response = self._handler.refusal(head)
                    finished = False
                    if response is None:
                        body = await self._body(head, self._limits.body_bytes if owner is not None else 0)
                        response = await self._handler.respond(head, body)
                        # Parsers disagree on where some chunked bodies end, so nothing is read after one.
                        finished = not head.is_chunked
                except Refused as refused:
                    response, finished = refused.response, False
                await self._send(response, keep=finished)
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    await self._linger()
                    return None
                self._http.start_next_cycle()
        except _ClientGone:
            return None

    async def refuse(self, status: int, code: str, message: str) -> None:
        """Refuse the upgrade that `serve` returned, and end."""
        with contextlib.suppress(_ClientGone):
            await self._send(error_response(status, code, message), keep=False)
            await self._linger()

    async def _head(self) -> Head:
        received = self._http.trailing_data[0]
        try:
            async with asyncio.timeout(self._timings.request_head):
                while True:
                    event = self._next_event()
                    if event is h11.NEED_DATA:
                        received += await self._read()
                    elif isinstance(event, h11.Request):
                        head = Head(
                            method=event.method.decode("ascii"),
                            target=event.target.decode("ascii"),
                            version=event.http_version.decode("ascii"),
                            headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers],
                        )
                        rest = len(self._http.trailing_data[0])
                        _check_framing(head, received[: len(received) - rest])
                        return head
                    else:
                        raise _ClientGone
        except TimeoutError as exc:
            if not received:
                raise _ClientGone from exc
            raise Refused(408, "TIMEOUT", "the request head did not arrive in time; send it at once") from exc

    async def _body(self, head: Head, limit: int) -> bytes:
        too_large = Refused(413, "BODY_TOO_LARGE", f"the body is larger than {limit} bytes; send less")
        declared = head.header("content-length")
        if declared is not None and int(declared) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._timings.request_body):
                if self._http.they_are_waiting_for_100_continue:
                    self._write(h11.InformationalResponse(status_code=100, headers=[]))
                while True:
                    event = self._next_event()
                    if event is h11.NEED_DATA:
                        await self._read()
                    elif isinstance(event, h11.Data):
                        body += event.data
                        if len(body) > limit:
                            raise too_large
                    elif isinstance(event, h11.EndOfMessage):
                        return bytes(body)
                    else:
                        raise _ClientGone
        except TimeoutError as exc:
            raise Refused(408, "TIMEOUT", "the request body did not arrive in time; send it at once") from exc

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as exc:
            if self._ended:
                raise _ClientGone from exc
            raise Refused(exc.error_status_hint, "BAD_REQUEST", f"not HTTP/1.1: {exc}") from exc

    async def _read(self) -> bytes:
        try:
            data = await self._reader.read(_READ_BYTES)
        except OSError as exc:
            raise _ClientGone from exc
        self._ended = not data
        self._http.receive_data(data)
        return data

    async def _send(self, response: Response, *, keep: bool) -> None:
        content = response.body if isinstance(response.body, bytes) else json_bytes(response.body)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(content)),
            # By it agents compare their clock (RFC 9110 section 6.6.1).
            "date": formatdate(usegmt=True),
            "cache-control": "no-store",
            **response.headers,
        }
        if not keep:
            headers["connection"] = "close"
        self._write(h11.Response(status_code=response.status, headers=list(headers.items())))
        self._write(h11.Data(data=content))
        self._write(h11.EndOfMessage())
        try:
            async with asyncio.timeout(self._timings.write):
                await self._writer.drain()
        except (TimeoutError, OSError) as exc:
            self._writer.transport.abort()
            raise _ClientGone from exc

    def _write(self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)

    async def _linger(self) -> None:
        """Read and discard until the client closes.

        Closing first would reset the connection while the client still sends its body, and it would lose the response.
        """
        if not self._writer.can_write_eof():
            return
        try:
            async with asyncio.timeout(self._timings.close):
                self._writer.write_eof()
                while await self._reader.read(_READ_BYTES):
                    pass
        except (TimeoutError, OSError):
            _log.debug("client did not close after an error response")


def _check_framing(head: Head, received: bytes) -> None:
    if head.version not in ("1.0", "1.1"):
        raise Refused(505, "BAD_REQUEST", "this server speaks HTTP/1.1")
    fault = framing_fault(received, head.version, [name for name, _ in head.headers])
    if fault is not None:
        raise Refused(400, "BAD_REQUEST", f"the request is ambiguous: {fault}")
