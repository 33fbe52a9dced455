"""Answers of the HTTP receiver as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from time import time

from syntra.telemetry.otlp.request_head import RequestHead
from syntra.telemetry.otlp.responses import Answer

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def encoded(answer: Answer, head: RequestHead | None, extra: Sequence[tuple[str, str]], *, closes: bool) -> bytes:
    """The response to a request. `head` is None when it could not be parsed; `closes` ends the connection after it."""
    status, content_type, body, headers = answer
    lines = [f"HTTP/1.1 {status} {_PHRASES[status]}\r\nDate: {_date()}\r\n"]
    if status != 204:
        lines.append(f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n")
    for name, value in (*headers, *extra):
        lines.append(f"{name}: {value}\r\n")
    if closes:
        lines.append("Connection: close\r\n")
    elif head is not None and not head.is_http_1_1:
        lines.append("Connection: keep-alive\r\n")
    lines.append("\r\n")
    first = "".join(lines).encode("latin-1")
    return first if head is not None and head.method == "HEAD" else first + body


_now = (0, "")


def _date() -> str:
    """The header Date (RFC 9110 §6.6.1), formatted once per second."""
    global _now
    second = int(time())
    if _now[0] != second:
        _now = (second, formatdate(second, usegmt=True))
    return _now[1]
