"""Requests whose end two HTTP parsers may see at different bytes. Pure.

Behind a proxy such a request can carry a second one that the proxy never saw (request smuggling). RFC 9112 lets a
server repair most of them (sections 2.2, 5.2, 6.1, 6.3), and h11 does. Ordinary clients never send them, so they are
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BARE_LINE_BREAK = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_FOLDED_LINE = re.compile(rb"\r\n[ \t]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([^\r]*?)[ \t]*(?=\r)", re.IGNORECASE)


def framing_fault(head: bytes, version: str, names: Iterable[str]) -> str | None:
    """Return why a request head is ambiguous, or None.

    `head` is the head as received, `names` are its header names in lower case.
    """
    lengths = _LENGTH.findall(head)
    if _BARE_LINE_BREAK.search(head):
        return "a line of the head does not end with CR LF"
    if _FOLDED_LINE.search(head):
        return "a header is continued on a second line"
    if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
        return "Content-Length is not exactly one number"
    if "transfer-encoding" in names:
        if lengths:
            return "Transfer-Encoding and Content-Length exclude each other"
        if version == "1.0":
            return "HTTP/1.0 has no Transfer-Encoding"
    return None
