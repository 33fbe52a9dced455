"""The answer to a GET, read as its bytes arrive (RFC 9112), with a limit on its decoded body. Pure.

Smaller than a general client: one request at a time, no upgrade, and chunks without their extensions and trailers.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from syntra.utils.errors import AgentError

HEAD_MAX = 32 * 1024
_LINE_MAX = 4096
_PIECE = 1 << 18
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(rb"[0-9]{1,15}")

_AT_HEAD, _IN_LENGTH, _AT_SIZE, _IN_CHUNK, _AT_CHUNK_END, _AT_TRAILER, _TO_CLOSE, _DONE = range(8)


class BadAnswer(AgentError):
    """An answer that is not HTTP, is cut, or is above the limit."""

    code = "BAD_ANSWER"


class Answer:
    """One answer. `status` is 0 and `headers` is empty until the head is complete; names are in lower case."""

    def __init__(self, max_body: int) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.keeps_open = False
        """Whether the connection can take another request after this answer."""
        self._max = max_body
        self._state = _AT_HEAD
        self._kept = b""
        self._left = 0
        self._wire = 0
        self._body: list[bytes] = []
        self._size = 0
        self._inflater: zlib._Decompress | None = None
        self._trailers = 0

    @property
    def is_done(self) -> bool:
        """Whether the whole answer has arrived."""
        return self._state == _DONE

    def body(self) -> bytes:
        """The decoded body of a complete answer. Raises BadAnswer if its compression is incomplete."""
        if self._inflater is not None and not self._inflater.eof and self._wire:
            raise BadAnswer("its gzip body is incomplete")
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises BadAnswer."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        at = 0
        while at < len(data) and self._state != _DONE:
            if self._state in (_IN_LENGTH, _IN_CHUNK, _TO_CLOSE):
                at = self._take_body(data, at)
                continue
            after = self._take_head(data, at) if self._state == _AT_HEAD else self._take_line(data, at)
            if after is None:
                self._kept = data[at:]
                return
            at = after
        if at < len(data):
            # Bytes that nothing asked for: they would be taken for the next answer.
            self.keeps_open = False

    def end(self) -> None:
        """The peer has closed. Raises BadAnswer if something is missing."""
        if self._state == _TO_CLOSE:
            self._state = _DONE
        elif self._state != _DONE:
            raise BadAnswer("the target closed the connection before the answer was complete")

    def _take_head(self, data: bytes, at: int) -> int | None:
        end = data.find(b"\r\n\r\n", at, at + HEAD_MAX)
        if end < 0:
            if len(data) - at >= HEAD_MAX:
                raise BadAnswer(f"its head is longer than {HEAD_MAX} bytes")
            return None
        first, *rows = data[at:end].split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise BadAnswer("it is not HTTP")
        headers: dict[str, str] = {}
        for row in rows:
            found = _HEADER.fullmatch(row)
            if found is None:
                raise BadAnswer("a header is malformed")
            name = found[1].decode().lower()
            value = found[2].strip(b" \t").decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if status[2] in (b"100", b"102", b"103"):
            return end + 4
        self._begin(int(status[2]), status[1] == b"1", headers)
        return end + 4

    def _begin(self, status: int, is_new: bool, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        self.keeps_open = is_new and "close" not in headers.get("connection", "").lower()
        encoding = headers.get("content-encoding", "").lower()
        if encoding in ("gzip", "x-gzip"):
            self._inflater = zlib.decompressobj(31)
        elif encoding not in ("", "identity"):
            raise BadAnswer(f"its encoding {encoding[:40]!r} is none that was asked for")
        coding = headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if status in (204, 304):
            self._state = _DONE
        elif coding:
            if coding != "chunked":
                raise BadAnswer(f"its transfer encoding {coding[:40]!r} is not known")
            self._state = _AT_SIZE
        elif length is None:
            self._state, self.keeps_open = _TO_CLOSE, False
        elif _LENGTH.fullmatch(length.encode("latin-1")) is None:
            raise BadAnswer("its length is not a number")
        else:
            self._left = int(length)
            self._state = _IN_LENGTH if self._left else _DONE
            if self._left > self._max:
                raise self._too_large()

    def _take_body(self, data: bytes, at: int) -> int:
        if self._state == _TO_CLOSE:
            self._add(data[at:])
            return len(data)
        piece = data[at : at + self._left]
        self._add(piece)
        self._left -= len(piece)
        if not self._left:
            self._state = _DONE if self._state == _IN_LENGTH else _AT_CHUNK_END
        return at + len(piece)

    def _take_line(self, data: bytes, at: int) -> int | None:
        end = data.find(b"\r\n", at, at + _LINE_MAX)
        if end < 0:
            if len(data) - at >= _LINE_MAX:
                raise BadAnswer("a line between its chunks is too long")
            return None
        line = data[at:end]
        if self._state == _AT_CHUNK_END:
            if line:
                raise BadAnswer("a chunk is longer than its size says")
            self._state = _AT_SIZE
        elif self._state == _AT_SIZE:
            found = _CHUNK.fullmatch(line)
            if found is None:
                raise BadAnswer("the size of a chunk is malformed")
            self._left = int(found[1], 16)
            self._state = _IN_CHUNK if self._left else _AT_TRAILER
        elif not line:
            self._state = _DONE
        else:
            self._trailers += len(line)
            if self._trailers > HEAD_MAX:
                raise BadAnswer("its trailers are too long")
        return end + 2

    def _add(self, piece: bytes) -> None:
        self._wire += len(piece)
        inflater = self._inflater
        if inflater is None:
            self._keep(piece)
            return
        while piece:
            if inflater.eof:
                raise BadAnswer("its gzip body has bytes behind its end")
            try:
                made = inflater.decompress(piece, _PIECE)
            except zlib.error:
                raise BadAnswer("its gzip body is damaged") from None
            self._keep(made)
            piece = inflater.unconsumed_tail or (inflater.unused_data if inflater.eof else b"")
            if not piece and len(made) < _PIECE:
                return

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._size += len(piece)
            if self._size > self._max:
                raise self._too_large()
            self._body.append(piece)

    def _too_large(self) -> BadAnswer:
        return BadAnswer(f"its body is larger than {self._max} bytes")
