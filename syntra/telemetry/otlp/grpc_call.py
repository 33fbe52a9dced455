"""A call of gRPC over HTTP/2: what its headers ask for, its message, and its answers. Pure.

The wire format is in gRPC's PROTOCOL-HTTP2.md; statuses of malformed calls are in its http-grpc-status-mapping.md.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple
from urllib.parse import quote

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.decompress import Decompress, UnknownEncoding, decompressor
from syntra.telemetry.otlp.http2.headers import RequestHead, encode_headers
from syntra.telemetry.otlp.responses import INTERNAL, RESOURCE_EXHAUSTED, RpcError
from syntra.telemetry.signals import Signal

METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": Signal.TRACES,
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": Signal.METRICS,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": Signal.LOGS,
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export": Signal.PROFILES,
}
ACCEPTED = "identity, deflate, gzip, zstd"
"""Encodings of messages, as the header grpc-accept-encoding."""

PREFIX_BYTES = 5
UNIMPLEMENTED = 12
WHOLE_BYTES = 1 << 20
"""A message up to this size gets its memory at once, a longer one as it comes."""

_SIGNALS = {method.encode(): signal for method, signal in METHODS.items()}
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto)?\s*(;.*)?")
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNIT_SECS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_HEAD = ((":status", "200"), ("content-type", "application/grpc"))


class Answer(NamedTuple):
    """Header blocks and the body of a response. Without a body, `headers` is all of it."""

    headers: bytes
    body: bytes = b""
    trailers: bytes = b""


class CannotCall(Exception):
    """The call ends with this answer before its message is read."""

    def __init__(self, answer: Answer, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer
        self.reason = reason
        """As `Intake.refused` counts it."""


class Call(NamedTuple):
    """What the headers of a call ask for."""

    signal: Signal
    decompress: Decompress | None
    """None for identity."""
    timeout_secs: float | None


def parse_call(head: RequestHead) -> Call:
    """The call in the headers of a request. Raises CannotCall."""
    signal, decompress = _service(
        head.method, head.path, head.fields.get(b"content-type", b""), head.fields.get(b"grpc-encoding", b"")
    )
    timeout = _TIMEOUT.fullmatch(head.fields.get(b"grpc-timeout", b""))
    secs = int(timeout[1]) * _UNIT_SECS[timeout[2]] if timeout else None
    return Call(signal=signal, decompress=decompress, timeout_secs=secs)


@lru_cache(64)
def _service(method: bytes, path: bytes, content_type: bytes, encoding: bytes) -> tuple[Signal, Decompress | None]:
    if method != b"POST":
        raise CannotCall(_http(405, ("allow", "POST")), "method")
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise CannotCall(_http(415), "encoding")
    signal = _SIGNALS.get(path)
    if signal is None:
        raise CannotCall(_error(UNIMPLEMENTED, "unknown method; the agent has Export of OTLP's services"), "path")
    try:
        return signal, decompressor(encoding.decode("latin-1"))
    except UnknownEncoding:
        accept = (("grpc-accept-encoding", ACCEPTED),)
        unknown = _error(UNIMPLEMENTED, f"grpc-encoding must be one of {ACCEPTED}", accept)
        raise CannotCall(unknown, "encoding") from None


class TooLarge(Exception):
    """The message is longer than the limit."""


class CompressedUnasked(Exception):
    """The message says that it is compressed, the headers do not say how."""


class MessageReader:
    """Joins the one message of a call from the parts of the body."""

    __slots__ = ("_body", "_limit", "_may_be_compressed", "_prefix", "_whole", "is_compressed", "length", "received")

    def __init__(self, limit: int, *, may_be_compressed: bool) -> None:
        self._limit = limit
        self._may_be_compressed = may_be_compressed
        self._prefix = b""
        self._whole: bytes | None = None
        self._body: BytesIO | None = None
        self.is_compressed = False
        self.length = 0
        """Bytes of the message, once its prefix is there."""
        self.received = 0

    def feed(self, part: memoryview) -> memoryview:
        """Take the prefix from a part of the body; returns what is for `write`. Raises as `_parse`."""
        missing = PREFIX_BYTES - len(self._prefix)
        if not missing:
            return part
        self._prefix += bytes(part[:missing])
        if len(part) >= missing:
            self._parse()
        return part[missing:]

    def write(self, part: memoryview) -> None:
        """Keep a part of the message. Raises BadData when it is longer than its prefix says."""
        size = len(part)
        if not size:
            return
        self.received += size
        if self.received > self.length:
            raise BadData("the request has more than one message")
        if self._body is not None:
            self._body.write(part)
        elif size == self.length:
            self._whole = bytes(part)
        else:
            self._body = body = BytesIO()
            if self.length <= WHOLE_BYTES:
                # All of its memory at once; by itself it grows by an eighth at a time, and each time copies.
                body.seek(self.length - 1)
                body.write(b"\0")
                body.seek(0)
            body.write(part)

    def message(self) -> bytes:
        """The message, when the request is complete. Raises BadData if it is not."""
        if not self._prefix:
            raise BadData("the request has no message")
        if len(self._prefix) < PREFIX_BYTES or self.received < self.length:
            raise BadData("the message is incomplete")
        if self._body is None:
            return self._whole or b""
        # Its own memory, not a copy.
        whole, self._body = self._body.getvalue(), None
        return whole

    def _parse(self) -> None:
        """Raises TooLarge, CompressedUnasked and BadData."""
        flag = self._prefix[0]
        self.length = int.from_bytes(self._prefix[1:], "big")
        if flag > 1:
            raise BadData("the flags of the message are unknown")
        if flag and not self._may_be_compressed:
            raise CompressedUnasked
        self.is_compressed = flag == 1
        if self.length > self._limit:
            raise TooLarge


def succeeded(response: bytes) -> Answer:
    """OK with an encoded response."""
    if not response:
        return _EMPTY
    return Answer(_OK, b"\0" + len(response).to_bytes(4, "big") + response, _OK_TRAILERS)


def failed(error: RpcError) -> Answer:
    """A status other than OK, with its details."""
    details = b64encode(error.details).rstrip(b"=").decode()
    return _error(error.code, error.message, (("grpc-status-details-bin", details),))


def too_large(limit: int) -> Answer:
    """RESOURCE_EXHAUSTED, which without RetryInfo makes a sender drop the data: it would never fit."""
    return _error(RESOURCE_EXHAUSTED, f"the message is longer than {limit} bytes; send smaller requests")


COMPRESSED_UNASKED_ANSWER: Answer
"""As gRPC's compression.md wants it."""


def _error(code: int, message: str, more: tuple[tuple[str, str], ...] = ()) -> Answer:
    status = (("grpc-status", str(code)), ("grpc-message", quote(message, safe=_PRINTABLE)))
    return Answer(encode_headers((*_HEAD, *status, *more)))


def _http(status: int, *more: tuple[str, str]) -> Answer:
    return Answer(encode_headers(((":status", str(status)), *more)))


_OK = encode_headers(_HEAD)
_OK_TRAILERS = encode_headers([("grpc-status", "0")])
_EMPTY = Answer(_OK, bytes(PREFIX_BYTES), _OK_TRAILERS)
COMPRESSED_UNASKED_ANSWER = _error(INTERNAL, "the message is compressed, but the request has no grpc-encoding")
