"""The head of an HTTP/1.1 request, parsed strictly (RFC 9112). Pure.

`http.server` reads headers with the parser for e-mail, which costs more than everything else about a small request and
accepts lines that other servers read differently. Here one regular expression accepts what RFC 9112 allows, and the
rest is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_FIELDS = 100
MAX_LENGTH_DIGITS = 18


class HttpRefusal(Exception):
    """A request that is refused: `status` of the answer, a message for the sender, a reason for the counter."""

    def __init__(
        self, status: int, message: str, reason: str, headers: tuple[tuple[str, str], ...] = (), *, closes: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers
        self.closes = closes
        """Where the request ends is unknown, so no other request can follow on the connection."""


class RequestHead(NamedTuple):
    """A parsed head.

    Names of headers are in lower case; values of a repeated header are joined by commas. Content-Length is not among
    them: it has a field of its own.
    """

    method: str
    path: str
    """Without the query."""
    is_http_1_1: bool
    headers: dict[str, str]
    content_length: int | None
    is_chunked: bool
    keeps_alive: bool

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow the head."""
        return self.is_chunked or bool(self.content_length)


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = _TOKEN + r":[^\x00-\x08\n-\x1f\x7f]*"
_HEAD = re.compile(rf"({_TOKEN}) ([!-~\x80-\xff]+) HTTP/1\.([01])((?:\r\n{_FIELD})*)")
_FIRST_LINE = re.compile(rf"{_TOKEN} [!-~\x80-\xff]+ HTTP/(\d)\.(\d)")
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n|$)", re.IGNORECASE)
_SINGLE = frozenset({"content-length", "content-type", "host", "transfer-encoding", "content-encoding"})
"""Headers of which a second one changes the meaning of the request: refused."""


def parse_head(head: bytes) -> RequestHead:
    """Parse a head without the empty line at its end. Raises HttpRefusal."""
    match = _HEAD.fullmatch(head.decode("latin-1"))
    if match is None:
        raise _malformed(head.decode("latin-1"))
    method, target, minor, lines = match.groups()
    headers: dict[str, str] = {}
    fields = lines.split("\r\n")
    if len(fields) > MAX_FIELDS + 1:
        raise HttpRefusal(431, f"more than {MAX_FIELDS} headers", "head", closes=True)
    for line in fields[1:]:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in _SINGLE:
                raise _bad(f"more than one {name} header")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    is_http_1_1 = minor == "1"
    if is_http_1_1 and "host" not in headers:
        raise _bad("a request of HTTP/1.1 needs a Host header")
    connection = headers.get("connection")
    if connection is None:
        keeps_alive = is_http_1_1
    else:
        options = {option.strip() for option in connection.lower().split(",")}
        keeps_alive = "close" not in options and (is_http_1_1 or "keep-alive" in options)
    length, is_chunked = _framing(headers, is_http_1_1)
    return RequestHead(method, _path(target), is_http_1_1, headers, length, is_chunked, keeps_alive)


class HeadParser:
    """Parses the heads of one connection. It remembers the last one.

    A sender repeats the same head for each request; only Content-Length differs. Parsing that number alone costs a
    twentieth of parsing the head.
    """

    def __init__(self) -> None:
        self._before: bytes | None = None
        self._behind = b""
        self._last: RequestHead | None = None

    def parse(self, head: bytes) -> RequestHead:
        """As `parse_head`."""
        before, last = self._before, self._last
        if before is not None and last is not None and head.startswith(before) and head.endswith(self._behind):
            length = head[len(before) : len(head) - len(self._behind)]
            if length.isdigit() and len(length) <= MAX_LENGTH_DIGITS:
                method, path, is_http_1_1, headers, _, is_chunked, keeps_alive = last
                return RequestHead(method, path, is_http_1_1, headers, int(length), is_chunked, keeps_alive)
        self._before = None
        parsed = parse_head(head)
        match = _LENGTH.search(head)
        if match is not None:
            self._before, self._behind = head[: match.start(1)], head[match.end(1) :]
            self._last = parsed
        return parsed


def _framing(headers: dict[str, str], is_http_1_1: bool) -> tuple[int | None, bool]:
    length = headers.pop("content-length", None)
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise _bad("both Content-Length and Transfer-Encoding")
        if not is_http_1_1:
            raise _bad("Transfer-Encoding in a request of HTTP/1.0")
        if coding.lower() != "chunked":
            raise HttpRefusal(501, "the only known transfer coding is chunked", "head", closes=True)
        return None, True
    if length is None:
        return None, False
    if not length.isdecimal() or not length.isascii() or len(length) > MAX_LENGTH_DIGITS:
        raise _bad("Content-Length is not a number")
    return int(length), False


def _path(target: str) -> str:
    if not target.startswith("/"):
        # RFC 9112 §3.2.2: a server must accept the absolute form, too.
        target = _ABSOLUTE.sub("", target, count=1) or "/"
    return target.partition("?")[0]


def _bad(message: str) -> HttpRefusal:
    return HttpRefusal(400, message, "head", closes=True)


def _malformed(head: str) -> HttpRefusal:
    line, *fields = head.split("\r\n")
    first = _FIRST_LINE.fullmatch(line)
    if first is None:
        return _bad("the request line is malformed")
    if first[1] != "1" or first[2] not in "01":
        return HttpRefusal(505, "the known versions are HTTP/1.1 and HTTP/1.0", "head", closes=True)
    for number, field in enumerate(fields, 1):
        if re.fullmatch(_FIELD, field) is None:
            return _bad(f"header {number} is malformed")
    return _bad("the head is malformed")
