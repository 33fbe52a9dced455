"""Header blocks: decoded by the library `hpack`, checked by the rules of RFC 9113 §8, and those of responses."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import cast

from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple, OversizedHeaderListError
from hpack.table import HeaderTable

from syntra.telemetry.otlp.http2.frames import ConnectionFault, ErrorCode, StreamFault
from syntra.utils.frozen import frozen

# Its debug messages have every header of every sender in them; keys of backends are there.
logging.getLogger("hpack").setLevel(logging.WARNING)

KNOWN_BLOCKS = 32
"""Blocks that are remembered. Senders write the time that is left (grpc-timeout) in a few ways."""

_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_HTTP_1 = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
# RFC 9113 §8.2.1: tokens of RFC 9110 in lower case.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9a-z]+"
_NAMES = re.compile(rb"(:?%b\n)*:?%b" % (_TOKEN, _TOKEN))
_NOT_IN_VALUES = re.compile(rb"[\0\r\n]")

Field = tuple[bytes, bytes]


@frozen
class RequestHead:
    """The headers of a request. Of a field that comes several times, the first value."""

    method: bytes
    path: bytes
    fields: dict[bytes, bytes]
    content_length: int | None


class _Table(HeaderTable):
    """A header table that counts its changes."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


class HeaderDecoder:
    """Decodes the header blocks of one connection, which must all pass through it.

    Most requests of a sender have the same headers. Such a block is decoded once: a block that changes nothing in the
    table means the same as long as the table stays the same.
    """

    def __init__(self, max_list_bytes: int) -> None:
        self._decoder = Decoder(max_list_bytes)
        self._table = self._decoder.header_table = _Table()
        # What blocks mean while the table stays as it is.
        self._known: dict[bytes, RequestHead] = {}
        self._known_at = 0

    def request(self, block: bytes) -> RequestHead:
        """The headers of a new request. Raises ConnectionFault and StreamFault."""
        known = self._known.get(block)
        if known is not None and self._known_at == self._table.changes:
            return known
        head = _request_head(self.fields(block))
        if self._table.changes != self._known_at or block[0] & 0xE0 == 0x20 or len(self._known) >= KNOWN_BLOCKS:
            # A block that begins with a new size of the table (RFC 7541 §6.3) changes it, too.
            self._known.clear()
            self._known_at = self._table.changes
        else:
            self._known[block] = head
        return head

    def fields(self, block: bytes) -> Sequence[Field]:
        """The fields of any block. Raises ConnectionFault: after a bad block the table is unknown."""
        try:
            # With `raw` they are bytes, which the library's types do not say.
            return cast(list[Field], self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too long") from None
        except (HPACKError, IndexError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "the header block is damaged") from error


def check_trailers(fields: Sequence[Field]) -> None:
    """Raise StreamFault for trailers that no request may have; their values are ignored."""
    _check(fields)
    if any(name[:1] == b":" for name, _ in fields):
        raise _malformed("a trailer has the name of a pseudo-header")


def encode_headers(fields: Iterable[tuple[str, str]]) -> bytes:
    """A header block that uses no dynamic table, so the same bytes are right on every connection at any time."""
    tuples = [NeverIndexedHeaderTuple(name.encode(), value.encode()) for name, value in fields]
    return bytes(Encoder().encode(tuples))


def _no_table() -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode([]))


NO_TABLE = _no_table()
"""Begins the block after the peer changed the size of the table, which must be acknowledged (RFC 7541 §4.2)."""


def _request_head(fields: Sequence[Field]) -> RequestHead:
    _check(fields)
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if name not in _PSEUDO or name in pseudo or regular:
                raise _malformed("a pseudo-header is unknown, repeated or not in front")
            pseudo[name] = value
        else:
            regular.setdefault(name, value)
    if not pseudo.get(b":method") or not pseudo.get(b":scheme") or not pseudo.get(b":path"):
        raise _malformed("a pseudo-header is missing")
    length = regular.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 20):
        raise _malformed("content-length is no number")
    return RequestHead(
        method=pseudo[b":method"],
        path=pseudo[b":path"],
        fields=regular,
        content_length=None if length is None else int(length),
    )


def _check(fields: Sequence[Field]) -> None:
    names = [name for name, _ in fields]
    # Searched in one piece: this is done for every request whose headers are new.
    if not _NAMES.fullmatch(b"\n".join(names)) or _NOT_IN_VALUES.search(b"".join([value for _, value in fields])):
        raise _malformed("a header has a character that HTTP/2 does not allow")
    if not _OF_HTTP_1.isdisjoint(names):
        raise _malformed("a header is one of HTTP/1.1")
    if b"te" in names and (b"te", b"trailers") not in fields:
        raise _malformed("TE is not trailers")


def _malformed(message: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, message)
