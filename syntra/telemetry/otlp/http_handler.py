"""Requests of one HTTP connection: which path, which encoding, and the answer, on `http.server`."""

from __future__ import annotations

import io
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer
from typing import Any, Protocol, cast

from syntra.telemetry.intake import BadData, Intake, Overloaded, Request, Source
from syntra.telemetry.otlp.cors import Cors
from syntra.telemetry.otlp.decompress import ACCEPTED, Decompress, UnknownEncoding, decompressor
from syntra.telemetry.otlp.failures import Failures, try_again
from syntra.telemetry.otlp.http_answer import encoded
from syntra.telemetry.otlp.http_connection import LARGE_BYTES, Connection, SenderGone
from syntra.telemetry.otlp.http_limits import HttpLimits, with_growth
from syntra.telemetry.otlp.memory import LARGE_REQUEST_BYTES, Reservation
from syntra.telemetry.otlp.request_head import HeadParser, HttpRefusal, RequestHead
from syntra.telemetry.otlp.responses import Answer, Encoding, bad_data, overloaded, refusal, success
from syntra.telemetry.signals import Signal

logger = logging.getLogger(__name__)

PATHS = {
    "/v1/traces": Signal.TRACES,
    "/v1/metrics": Signal.METRICS,
    "/v1/logs": Signal.LOGS,
    "/v1development/profiles": Signal.PROFILES,
}

_ENCODINGS = {encoding.value: encoding for encoding in Encoding}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Route = Callable[[], tuple[str, bytes]]
"""Makes the content type and the body of a GET."""
DecodeJson = Callable[[Signal, bytes, Callable[[int], None]], Request]
"""Decodes OTLP's JSON. It calls its last argument with the bytes that it needs in all. Raises BadData."""


class Service(Protocol):
    """What a handler needs of its receiver."""

    intake: Intake
    decode_json: DecodeJson
    limits: HttpLimits
    cors: Cors
    routes: Mapping[str, Route]
    failures: Failures
    is_closing: bool
    had_large: bool


class HandlerServer(Protocol):
    """The listener that accepted the connection."""

    service: Service
    opened: dict[int, Connection]


class OtlpHandler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after another, in the connection's thread."""

    protocol_version = "HTTP/1.1"

    def __init__(self, request: socket.socket, client_address: Any, server: BaseServer) -> None:
        listener = cast(HandlerServer, server)
        self._peer = listener.opened[request.fileno()]
        self._service = listener.service
        self._limits = self._service.limits
        self._body_bytes = self._limits.body_bytes
        self._intake = self._service.intake
        self._source = Source(address=self._peer.address, transport="http")
        self._heads = HeadParser()
        self._head: RequestHead | None = None
        self._unread: int | None = 0
        super().__init__(request, client_address, server)

    def setup(self) -> None:
        """No buffered files as in the base class: the connection reads and writes the socket."""
        self.close_connection = True
        self._peer.handshake()

    def finish(self) -> None:
        """Nothing to flush."""

    def handle_one_request(self) -> None:
        """Read one request and answer it."""
        self._head = None
        self._unread = None
        try:
            try:
                raw = self._peer.read_head()
                if raw is None:
                    self.close_connection = True
                    return
                answer = self._answer(self._parse(raw))
            except HttpRefusal as error:
                answer = self._refused(error)
            except SenderGone:
                raise
            except Exception as error:  # noqa: BLE001 - not even a bug here may leave the sender without an answer
                self._service.failures.log_once("http", error)
                self.close_connection = True
                answer = overloaded(try_again(), self._encoding())
            self._finish(answer)
        except SenderGone:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """The base class would write to standard error."""
        logger.debug("http server", extra={"text": format % args})

    def _parse(self, raw: bytes) -> RequestHead:
        head = self._heads.parse(raw)
        self._head = head
        self._unread = None if head.is_chunked else head.content_length or 0
        self.command, self.path = head.method, head.path
        self.close_connection = not head.keeps_alive
        return head

    # Which resource

    def _answer(self, head: RequestHead) -> Answer:
        signal = PATHS.get(head.path)
        if signal is not None:
            if head.method == "POST":
                return self._export(signal, head)
            if head.method == "OPTIONS":
                preflight = self._service.cors.preflight_headers(head.headers)
                if preflight is not None:
                    return Answer(204, "", b"", preflight)
            raise HttpRefusal(405, "the method for this path is POST", "method", (("Allow", self._allowed("POST")),))
        if head.path == "/healthz":
            route: Route | None = _healthz
        else:
            # Routes have figures about the host: they are for processes on it.
            route = self._service.routes.get(head.path) if self._is_local() else None
        if route is None:
            raise HttpRefusal(404, f"no such path; the paths are {', '.join(PATHS)}", "path")
        if head.method not in ("GET", "HEAD"):
            raise HttpRefusal(405, "the methods for this path are GET and HEAD", "method", (("Allow", "GET, HEAD"),))
        try:
            content_type, body = route()
        except Exception:  # a route of another package; the connection and the receiver live on
            logger.exception("http route failed", extra={"path": head.path})
            return refusal(500, "internal error", None)
        return Answer(200, content_type, body)

    def _is_local(self) -> bool:
        address = self._peer.address
        return not address or ipaddress.ip_address(address).is_loopback

    def _allowed(self, method: str) -> str:
        return f"{method}, OPTIONS" if self._service.cors.is_enabled else method

    # Export requests

    def _export(self, signal: Signal, head: RequestHead) -> Answer:
        headers = head.headers
        encoding = self._encoding()
        if encoding is None:
            raise HttpRefusal(415, f"Content-Type must be {' or '.join(_ENCODINGS)}", "encoding")
        decompress = None
        coding = headers.get("content-encoding")
        if coding is not None:
            try:
                decompress = decompressor(coding)
            except UnknownEncoding:
                accepted = (("Accept-Encoding", ACCEPTED),)
                raise HttpRefusal(415, f"Content-Encoding must be one of {ACCEPTED}", "encoding", accepted) from None
        length = head.content_length
        limit = self._body_bytes
        if length is None and not head.is_chunked:
            raise HttpRefusal(411, "a request needs Content-Length or chunks", "length", closes=True)
        if length is not None and length > limit:
            raise _too_large(limit)
        expects = headers.get("expect") if head.is_http_1_1 else None
        if expects is not None and expects.lower() != "100-continue":
            raise HttpRefusal(417, "the only known expectation is 100-continue", "expect")
        try:
            if decompress is None and length is not None and length <= LARGE_BYTES:
                with self._intake.reserve(length):
                    if expects is not None:
                        self._continue()
                    body = self._peer.read_body(length)
                    self._unread = 0
                    return self._receive(signal, encoding, body)
            with Reservation(self._intake, with_growth(limit)) as room:
                room.grow_to(length or 0)
                if expects is not None:
                    self._continue()
                pieces = self._peer.pieces(length) if length is not None else self._peer.chunked_pieces()
                self._unread = None
                body = self._collect(pieces, decompress, room)
                self._unread = 0
                return self._receive(signal, encoding, body)
        except BadData as error:
            return self._bad_data(signal, error, encoding)
        except Overloaded as error:
            return self._overloaded(signal, error, encoding)

    def _collect(self, pieces: Iterable[bytes], decompress: Decompress | None, room: Reservation) -> bytes:
        """The body in one piece. `BytesIO` returns its own memory, so a large body is there only once."""
        if decompress is not None:
            pieces = decompress(pieces)
        limit = self._body_bytes
        size = 0
        body = io.BytesIO()
        for piece in pieces:
            size += len(piece)
            if size > limit:
                self._service.had_large = True
                raise _too_large(limit)
            room.grow_to(with_growth(size))
            body.write(piece)
        return body.getvalue()

    def _receive(self, signal: Signal, encoding: Encoding, body: bytes) -> Answer:
        self._peer.allow_forever()
        if len(body) >= LARGE_REQUEST_BYTES:
            self._service.had_large = True
        if encoding is Encoding.PROTOBUF:
            return self._keep(signal, encoding, body, body)
        limit = self._limits.max_memory_bytes
        with Reservation(self._intake, limit) as objects:

            def reserve(size: int) -> None:
                if size + with_growth(len(body)) > limit:
                    raise HttpRefusal(413, "the JSON body has too many objects; send smaller requests", "too_large")
                objects.grow_to(size)

            try:
                request = self._service.decode_json(signal, body, reserve)
            except BadData as error:
                return self._bad_data(signal, error, encoding)
            except (HttpRefusal, Overloaded):
                raise
            except Exception as error:  # noqa: BLE001 - a bug in the decoder; the sender gets an answer
                return self._failed(signal, encoding, body, error)
            return self._keep(signal, encoding, body, request)

    def _keep(self, signal: Signal, encoding: Encoding, body: bytes, request: Request) -> Answer:
        try:
            return success(signal, self._intake.receive(signal, request, self._source), encoding)
        except BadData as error:
            return bad_data(error, encoding)
        except Overloaded as error:
            return overloaded(error, encoding)
        except Exception as error:  # noqa: BLE001 - whatever fails behind the receiver, the sender gets an answer
            return self._failed(signal, encoding, body, error)

    def _failed(self, signal: Signal, encoding: Encoding, body: bytes, error: Exception) -> Answer:
        again = self._service.failures.failed(signal, body, error)
        return refusal(500, "internal error", encoding) if again is None else overloaded(again, encoding)

    def _bad_data(self, signal: Signal, error: BadData, encoding: Encoding) -> Answer:
        self._intake.refused(signal, "bad_data")
        return bad_data(error, encoding)

    def _overloaded(self, signal: Signal, error: Overloaded, encoding: Encoding) -> Answer:
        self._intake.refused(signal, "overloaded")
        return overloaded(error, encoding)

    def _continue(self) -> None:
        if not self._peer.has_buffered:
            self._peer.send(_CONTINUE)

    # Answers

    def _encoding(self) -> Encoding | None:
        """The encoding of the request, None while it is unknown."""
        head = self._head
        if head is None:
            return None
        content_type = head.headers.get("content-type", "")
        encoding = _ENCODINGS.get(content_type)
        if encoding is None:
            encoding = _ENCODINGS.get(content_type.partition(";")[0].strip().lower())
        return encoding

    def _refused(self, error: HttpRefusal) -> Answer:
        head = self._head
        self._intake.refused(None if head is None else PATHS.get(head.path), error.reason)
        if error.closes or head is None:
            self.close_connection = True
        return refusal(error.status, str(error), self._encoding(), headers=error.headers)

    def _finish(self, answer: Answer) -> None:
        head = self._head
        unread = self._unread
        if unread != 0 and not self.close_connection:
            # The next request starts behind this body. A sender that waits for "100 Continue" may never send it.
            waits = head is not None and "expect" in head.headers
            if unread is None or waits or not self._peer.drain(unread):
                self.close_connection = True
        if self._service.is_closing or self._peer.timed_out:
            self.close_connection = True
        extra = self._service.cors.response_headers(head.headers) if head is not None else ()
        self._peer.send(encoded(answer, head, extra, closes=self.close_connection))
        if self.close_connection and unread != 0:
            self._peer.linger()


def _healthz() -> tuple[str, bytes]:
    return "text/plain; charset=utf-8", b"ok\n"


def _too_large(limit: int) -> HttpRefusal:
    return HttpRefusal(413, f"the body is larger than {limit} bytes; send smaller requests", "too_large")
