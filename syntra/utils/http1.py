"""HTTP/1.1 for the client of one connection, without I/O: response bytes to events, requests to bytes.

`ResponseParser` reads one response. Errors are state, not exceptions: `feed` and `feed_eof` return the complete events,
and `failure` describes the error in the rest. The end of the connection inside a head or body is a failure; only a body
without length and chunks ends with the connection (RFC 9112 section 6.3).

It does not use h11, which other parts use: reading a log with h11 takes a fifth more CPU time (docs/benchmarks.md,
"Reading logs"), and every start would import it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from syntra.utils.frozen import frozen

MAX_HEAD_BYTES = 64 * 1024
"""Limit of a response head, and of trailers. The engine's heads are below 1 KiB."""
MAX_CHUNK_LINE_BYTES = 4096
"""Limit of a chunk-size line with its extensions."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (.*))?", re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LENGTH = re.compile(r"[0-9]{1,15}")
_TARGET = re.compile(r"/[!-~]*")


@frozen
class Head:
    """The final status and headers; names in lower case, repeated fields joined with `, `."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@frozen
class Data:
    """A piece of the body, never empty."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The body is complete."""


Event = Head | Data | End


class FailureKind(Enum):
    NO_RESPONSE = "the connection was closed before a response"
    HEAD_CUT = "the connection was closed inside the response head"
    BODY_CUT = "the connection was closed inside the response body"
    MALFORMED = "malformed response"


@frozen
class Failure:
    """Why a response cannot be read further."""

    kind: FailureKind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.detail}" if self.detail else self.kind.value


class _Phase(Enum):
    HEAD = "head"
    LENGTH = "length"
    CHUNK_SIZE = "chunk size"
    CHUNK_DATA = "chunk data"
    CHUNK_END = "chunk end"
    TRAILERS = "trailers"
    UNTIL_CLOSE = "until close"
    DONE = "done"
    UPGRADED = "upgraded"
    FAILED = "failed"


class ResponseParser:
    """Parses the response to one request of the given method."""

    def __init__(self, method: str) -> None:
        self.failure: Failure | None = None
        self.keep_alive = False
        """After `End`: whether the connection may carry another request."""
        self.started = False
        """Whether any byte of the response arrived."""
        self.head_read = False
        """Whether the final head is complete."""
        self._method = method
        self._phase = _Phase.HEAD
        self._buffer = bytearray()
        self._left = 0

    @property
    def upgraded(self) -> bool:
        """Whether the response was 101: the following bytes are not HTTP and become the trailing bytes."""
        return self._phase is _Phase.UPGRADED

    def take_trailing(self) -> bytes:
        """The bytes after the response, once: after 101 the start of the raw stream, otherwise an error of the peer."""
        if self._phase not in (_Phase.DONE, _Phase.UPGRADED):
            return b""
        trailing = bytes(self._buffer)
        self._buffer.clear()
        return trailing

    def feed(self, data: bytes) -> list[Event]:
        """Process bytes; return the events that they complete. Never raises; see `failure`."""
        events: list[Event] = []
        if self._phase is _Phase.FAILED:
            return events
        self.started = self.started or bool(data)
        self._buffer += data
        while self._step(events):
            pass
        return events

    def feed_eof(self) -> list[Event]:
        """The connection has ended. Inside a head or body this is a failure."""
        match self._phase:
            case _Phase.UNTIL_CLOSE:
                self._phase = _Phase.DONE
                return [End()]
            case _Phase.DONE | _Phase.UPGRADED | _Phase.FAILED:
                return []
            case _Phase.HEAD:
                kind = FailureKind.HEAD_CUT if self._buffer else FailureKind.NO_RESPONSE
            case _:
                kind = FailureKind.BODY_CUT
        self.failure = Failure(kind=kind)
        self._phase = _Phase.FAILED
        return []

    def _step(self, events: list[Event]) -> bool:
        match self._phase:
            case _Phase.HEAD:
                return self._step_head(events)
            case _Phase.LENGTH | _Phase.CHUNK_DATA:
                return self._step_counted(events)
            case _Phase.CHUNK_SIZE:
                return self._step_chunk_size()
            case _Phase.CHUNK_END:
                return self._step_chunk_end()
            case _Phase.TRAILERS:
                return self._step_trailers(events)
            case _Phase.UNTIL_CLOSE:
                if self._buffer:
                    events.append(Data(payload=bytes(self._buffer)))
                    self._buffer.clear()
                return False
            case _:
                return False

    def _step_head(self, events: list[Event]) -> bool:
        block = self._take_until(b"\r\n\r\n", MAX_HEAD_BYTES, "the head")
        if block is None:
            return False
        status_line, *lines = block.split(b"\r\n")
        match_ = _STATUS_LINE.fullmatch(status_line)
        if match_ is None:
            return self._fail("not an HTTP/1.1 status line")
        headers = _headers(lines)
        if headers is None:
            return self._fail("a header line is not `name: value`")
        status = int(match_[2])
        if 100 <= status < 200 and status != 101:
            return True  # interim responses precede the final one (RFC 9110 section 15.2)
        if not self._frame_body(status, headers, http_1_1=match_[1] == b"1"):
            return False
        self.head_read = True
        events.append(Head(status=status, headers=headers))
        if self._phase is _Phase.DONE:
            events.append(End())
        return True

    def _frame_body(self, status: int, headers: Mapping[str, str], *, http_1_1: bool) -> bool:
        """Decide how the body is delimited (RFC 9112 section 6.3)."""
        coding = headers.get("transfer-encoding")
        length = headers.get("content-length")
        options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
        self.keep_alive = http_1_1 and "close" not in options
        if status == 101:
            self.keep_alive = False
            self._phase = _Phase.UPGRADED
        elif self._method == "HEAD" or status in (204, 304):
            self._phase = _Phase.DONE
        elif coding is not None:
            if coding.strip().lower() != "chunked":
                return self._fail("a transfer coding other than chunked")
            if length is not None:
                self.keep_alive = False  # two contradicting lengths: do not trust what follows
            self._phase = _Phase.CHUNK_SIZE
        elif length is not None:
            values = {value.strip() for value in length.split(",")}
            value = values.pop()
            if values or _LENGTH.fullmatch(value) is None:
                return self._fail("the content length is not one number")
            self._left = int(value)
            self._phase = _Phase.LENGTH if self._left else _Phase.DONE
        else:
            self.keep_alive = False
            self._phase = _Phase.UNTIL_CLOSE
        return True

    def _step_counted(self, events: list[Event]) -> bool:
        if not self._buffer:
            return False
        payload = bytes(self._buffer[: self._left])
        del self._buffer[: len(payload)]
        self._left -= len(payload)
        events.append(Data(payload=payload))
        if self._left:
            return False
        if self._phase is _Phase.CHUNK_DATA:
            self._phase = _Phase.CHUNK_END
        else:
            self._phase = _Phase.DONE
            events.append(End())
        return True

    def _step_chunk_size(self) -> bool:
        line = self._take_until(b"\r\n", MAX_CHUNK_LINE_BYTES, "a chunk-size line")
        if line is None:
            return False
        size = line.partition(b";")[0].strip(b" \t")
        if _CHUNK_SIZE.fullmatch(size) is None:
            return self._fail("a chunk size is not a hexadecimal number")
        self._left = int(size, 16)
        self._phase = _Phase.CHUNK_DATA if self._left else _Phase.TRAILERS
        return True

    def _step_chunk_end(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            return self._fail("a chunk is longer than its size")
        del self._buffer[:2]
        self._phase = _Phase.CHUNK_SIZE
        return True

    def _step_trailers(self, events: list[Event]) -> bool:
        line = self._take_until(b"\r\n", MAX_HEAD_BYTES, "a trailer")
        if line is None:
            return False
        if not line:
            self._phase = _Phase.DONE
            events.append(End())
        return True  # the API does not use trailer fields

    def _take_until(self, mark: bytes, limit: int, what: str) -> bytes | None:
        """Remove and return the bytes before `mark`; None when it has not arrived. Fails beyond `limit` bytes."""
        index = self._buffer.find(mark, 0, limit + len(mark))
        if index < 0:
            if len(self._buffer) >= limit + len(mark):
                self._fail(f"{what} is longer than {limit} bytes")
            return None
        block = bytes(self._buffer[:index])
        del self._buffer[: index + len(mark)]
        return block

    def _fail(self, detail: str) -> bool:
        self.failure = Failure(kind=FailureKind.MALFORMED, detail=detail)
        self.keep_alive = False
        self._phase = _Phase.FAILED
        self._buffer.clear()
        return False


def _headers(lines: list[bytes]) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or _TOKEN.fullmatch(name) is None or any(char in value for char in "\r\n\0"):
            return None
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def encode_request(
    method: str, target: str, headers: Mapping[str, str], body: bytes | None = None, *, chunked: bool = False
) -> bytes:
    """Encode one request; `content-length` is computed from `body`, which may be empty but not None.

    `chunked`: the body follows in pieces, each from `encode_chunk`, and there is no `body`.

    Raises ValueError when the method, the target or a header allows header injection.
    """
    if _TOKEN.fullmatch(method) is None:
        raise ValueError("cannot encode a request: the method is not a token")
    if _TARGET.fullmatch(target) is None:
        raise ValueError("cannot encode a request: the target is not a quoted path")
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers.items():
        if _TOKEN.fullmatch(name) is None or name.lower() in ("content-length", "transfer-encoding"):
            raise ValueError(f"cannot encode a request: header name {name!r} is not allowed")
        if any(not (char == "\t" or " " <= char <= "\xff") or char == "\x7f" for char in value):
            raise ValueError(f"cannot encode a request: the value of header {name!r} has control or wide characters")
        lines.append(f"{name}: {value}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def encode_chunk(data: bytes) -> bytes:
    """A piece of a chunked body (RFC 9112, section 7.1); b"" is its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)
