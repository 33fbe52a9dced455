"""Bodies with `Transfer-Encoding: chunked`, decoded piece by piece (RFC 9112 §7.1). Pure."""

from __future__ import annotations

import re

from syntra.telemetry.otlp.request_head import HttpRefusal

MAX_LINE_BYTES = 4096
"""The longest line with a chunk's size and extensions, and the longest trailer line."""
MAX_TRAILER_BYTES = 16_384
MAX_OVERHEAD_BYTES = 1 << 20
"""Extensions of all chunks of one body together."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")

_AT_SIZE, _IN_DATA, _AT_END_OF_DATA, _AT_TRAILER, _DONE = range(5)


class ChunkedDecoder:
    """Takes bytes as they arrive and returns those of the body."""

    def __init__(self) -> None:
        self._state = _AT_SIZE
        self._kept = b""
        self._left = 0
        self._trailer_bytes = 0
        self._overhead = 0
        self.remainder = b""
        """Bytes behind the body, once it is complete: the next request."""

    @property
    def is_done(self) -> bool:
        """Whether the last chunk and the trailers have come."""
        return self._state == _DONE

    def feed(self, data: bytes) -> list[bytes]:
        """The parts of the body in `data`, without extensions and trailers. Raises HttpRefusal when it is malformed."""
        data = self._kept + data if self._kept else data
        at, end = 0, len(data)
        pieces: list[bytes] = []
        while at < end and self._state != _DONE:
            if self._state == _IN_DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _AT_END_OF_DATA
                continue
            if self._state == _AT_END_OF_DATA:
                if end - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise _bad("a chunk is longer than its size says")
                at += 2
                self._state = _AT_SIZE
                continue
            eol = data.find(b"\n", at, at + MAX_LINE_BYTES)
            if eol < 0:
                if end - at >= MAX_LINE_BYTES:
                    raise _bad("a line between chunks is too long")
                break
            if data[eol - 1 : eol] != b"\r" or eol == at:
                raise _bad("a line between chunks does not end with CR LF")
            self._line(data[at : eol - 1])
            at = eol + 1
        if self._state == _DONE:
            self.remainder = data[at:]
            self._kept = b""
        else:
            self._kept = data[at:]
        return pieces

    def _line(self, line: bytes) -> None:
        if self._state == _AT_TRAILER:
            if not line:
                self._state = _DONE
                return
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_TRAILER_BYTES or _TRAILER.fullmatch(line) is None:
                raise _bad("a trailer is malformed or too long")
            return
        match = _SIZE.fullmatch(line)
        if match is None:
            raise _bad("the size of a chunk is malformed")
        self._overhead += len(line) - len(match[1])
        if self._overhead > MAX_OVERHEAD_BYTES:
            raise _bad("the extensions of the chunks are too long")
        self._left = int(match[1], 16)
        self._state = _IN_DATA if self._left else _AT_TRAILER


def _bad(message: str) -> HttpRefusal:
    return HttpRefusal(400, message, "body", closes=True)
