"""Parses one HTTP/1.x response as it arrives: the status, and the start of the body.

Pure and incremental: bytes may arrive in pieces of any size, with the same result. It does only what a health probe
needs (RFC 9112): it skips interim responses, finds the end of the body, and does not decode content.

It does not use h11, which rejects responses with invalid headers or framing. Clients accept such responses, and a probe
that called the service unhealthy would take it down. Only the status must be readable.
"""

from __future__ import annotations

from syntra.utils.errors import AgentError

MAX_HEAD = 32 * 1024
MAX_BODY = 64 * 1024
MAX_EXCERPT = 2048
_MAX_CHUNK_LINE = 1024
_HEX = frozenset("0123456789abcdefABCDEF")


class MalformedResponse(AgentError):
    """The peer does not speak HTTP/1.x. The message says what it sent instead, without its address."""


class HttpResponse:
    """A response that is being read. Call `feed` until `finished`, and `close` when the peer closes."""

    def __init__(self) -> None:
        self.status: int | None = None
        """Set as soon as the head is complete."""
        self.finished = False
        """No further bytes are needed: the body has ended, or is longer than the limit."""
        self._pending = bytearray()
        self._excerpt = bytearray()
        self._taken = 0  # body bytes received, including framing
        self._searched = 0  # bytes of the head already searched
        self._body: _Body | None = None

    @property
    def excerpt(self) -> str:
        """The first 2 KiB of the body as text."""
        return self._excerpt.decode(errors="replace")

    def feed(self, data: bytes) -> None:
        """Parse the next bytes. Raises MalformedResponse; bytes after the response are ignored."""
        if self.finished:
            return
        self._pending += data
        while self._body is None:
            if not self._head():
                return
        self._take_body()

    def close(self) -> None:
        """The peer closed. Raises MalformedResponse when the head is incomplete."""
        if self._body is None:
            what = "before any response" if not self._pending else "in the middle of the response"
            raise MalformedResponse(f"the connection was closed {what}")
        self.finished = True

    def _head(self) -> bool:
        """Parse one head from the pending bytes; False while it is incomplete."""
        pending = self._pending
        if not b"HTTP/1.".startswith(pending[:7]):
            raise MalformedResponse(f"the answer is not HTTP/1: it begins with {bytes(pending[:24])!r}")
        # A bare LF may end a line (RFC 9112 §2.2).
        start = max(0, self._searched - 3)
        ends = [
            pending.find(mark, start) + len(mark) for mark in (b"\n\r\n", b"\n\n") if pending.find(mark, start) >= 0
        ]
        self._searched = len(pending)
        if not ends or min(ends) > MAX_HEAD:
            if len(pending) > MAX_HEAD:
                raise MalformedResponse(f"the response's head is larger than {MAX_HEAD} bytes")
            return False
        head = bytes(pending[: min(ends)])
        del pending[: min(ends)]
        self._searched = 0
        lines = head.decode("latin-1").split("\n")
        status = _status(lines[0].rstrip("\r"))
        if 100 <= status < 200 and status != 101:
            return True  # an interim response; the final one follows (RFC 9110 §15.2)
        self.status = status
        self._body = _Body.of(status, lines[1:])
        return True

    def _take_body(self) -> None:
        assert self._body is not None
        data = bytes(self._pending)
        self._pending.clear()
        self._taken += len(data)
        content = self._body.take(data)
        self._excerpt += content[: MAX_EXCERPT - len(self._excerpt)]
        self.finished = self._body.ended or self._taken >= MAX_BODY


class _Body:
    """Removes a body's framing. Invalid framing ends the body: the status is already known."""

    def __init__(self, *, length: int | None, chunked: bool) -> None:
        self._left = length  # None: until the peer closes, or (chunked) before a size line
        self._chunked = chunked
        self._line = bytearray()
        self.ended = length == 0

    @classmethod
    def of(cls, status: int, lines: list[str]) -> _Body:
        """The framing that the header lines declare (RFC 9112 §6.3)."""
        length: int | None = None
        chunked = False
        for line in lines:
            name, _, value = line.partition(":")
            value = value.strip()
            match name.lower():
                case "transfer-encoding":
                    chunked = value.lower().endswith("chunked")
                case "content-length" if value.isascii() and value.isdigit():
                    length = min(int(value[:18]), 10**17)
        if status in (101, 204, 304):
            length, chunked = 0, False
        return cls(length=None if chunked else length, chunked=chunked)

    def take(self, data: bytes) -> bytes:
        """The content in `data`."""
        if not self._chunked:
            return self._plain(data)
        content = bytearray()
        while data and not self.ended:
            if self._left:
                content += data[: self._left]
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
            else:
                data = self._size_line(data)
        return bytes(content)

    def _plain(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        content = data[: self._left]
        self._left -= len(content)
        self.ended = self._left == 0
        return content

    def _size_line(self, data: bytes) -> bytes:
        """Parse a chunk size from `data`, skipping the line break that ends the previous chunk."""
        line, newline, rest = data.partition(b"\n")
        self._line += line
        if len(self._line) > _MAX_CHUNK_LINE:
            self.ended = True
        if not newline:
            return b""
        text = self._line.decode("latin-1").rstrip("\r")
        self._line.clear()
        if not text and self._left == 0:
            self._left = None  # that was the line break after the chunk; the size follows
            return rest
        size = text.partition(";")[0].strip()
        if self._left == 0 or not size or not set(size) <= _HEX or len(size) > 15 or int(size, 16) == 0:
            self.ended = True
            return b""
        self._left = int(size, 16)
        return rest


def _status(line: str) -> int:
    version, _, rest = line.partition(" ")
    code = rest[:3]
    if len(version) != 8 or not version[7:].isdigit() or not (code.isascii() and code.isdigit() and len(code) == 3):
        raise MalformedResponse(f"the status line is not HTTP/1: {line[:40]!r}")
    if rest[3:4] not in ("", " ") or int(code) < 100:
        raise MalformedResponse(f"the status line is not HTTP/1: {line[:40]!r}")
    return int(code)
