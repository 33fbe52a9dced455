"""Request bodies in gzip, deflate and zstd, decompressed in small pieces.

The caller counts the pieces as they come and stops when they exceed its limit. So a body that expands a thousandfold
costs the limit and one piece, not its full size.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, cast

import zstandard

from syntra.telemetry.intake import BadData

PIECE_BYTES = 1 << 18
INPUT_BYTES = 1 << 16
"""zlib copies the unread input with each piece of output, so it gets the input in parts of this size."""
MAX_MEMBERS = 1024
"""gzip members in one body. Each costs a decompressor; empty ones would be cheap to send and expensive to read."""
MAX_WINDOW_BYTES = 1 << 23
"""The zstd window that RFC 8878 §3.1.1.1.2 asks every decoder to support. Levels up to 19 need no more."""

ACCEPTED = "gzip, deflate, zstd"
"""The value of Accept-Encoding in a 415 (RFC 9110 §15.5.16)."""

Decompress = Callable[[Iterable[bytes]], Iterator[bytes]]


class UnknownEncoding(Exception):
    """The value of a Content-Encoding header that is not one known encoding."""


def decompressor(content_encoding: str) -> Decompress | None:
    """The decompressor for a Content-Encoding header; None for identity. Raises UnknownEncoding.

    The decompressor raises BadData when the body is damaged or incomplete.
    """
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return None
    try:
        return _DECOMPRESSORS[name]
    except KeyError:
        raise UnknownEncoding(content_encoding) from None


def _gunzip(body: Iterable[bytes]) -> Iterator[bytes]:
    inflater = None
    members = 0
    for data in _parts(body):
        while data:
            if inflater is None:
                if members and not data.strip(b"\0"):
                    # Padding behind the last member, as gzip itself allows.
                    data = b""
                    break
                members += 1
                if members > MAX_MEMBERS:
                    raise BadData(f"the body has more than {MAX_MEMBERS} gzip members")
                inflater = zlib.decompressobj(31)
            yield from _pieces(inflater, data, "gzip")
            if not inflater.eof:
                break
            data = inflater.unused_data
            inflater = None
    if inflater is not None:
        raise BadData("the gzip body is incomplete")


def _inflate(body: Iterable[bytes]) -> Iterator[bytes]:
    """RFC 9110 defines deflate as the zlib format; some clients send raw deflate."""
    inflater = None
    start = b""
    for part in _parts(body):
        data = part
        if inflater is None:
            data = start + part
            if len(data) < 2:
                start = data
                continue
            is_zlib = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            inflater = zlib.decompressobj(15 if is_zlib else -15)
        elif inflater.eof:
            raise BadData("the deflate body has bytes behind its end")
        yield from _pieces(inflater, data, "deflate")
        if inflater.unused_data:
            raise BadData("the deflate body has bytes behind its end")
    if (inflater is None and start) or (inflater is not None and not inflater.eof):
        raise BadData("the deflate body is incomplete")


def _pieces(inflater: zlib._Decompress, data: bytes, name: str) -> Iterator[bytes]:
    while True:
        try:
            piece = inflater.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            raise BadData(f"the {name} body is damaged") from error
        if piece:
            yield piece
        data = inflater.unconsumed_tail
        if inflater.eof or (not data and len(piece) < PIECE_BYTES):
            return


def _parts(body: Iterable[bytes]) -> Iterator[bytes]:
    for piece in body:
        for at in range(0, len(piece), INPUT_BYTES):
            yield piece[at : at + INPUT_BYTES]


_MARK = b"\xa7" * 64
_MARK_FRAME = b"\x28\xb5\x2f\xfd\x20\x40\x03\x02\x00\xa7"
"""A zstd frame with one run-length block (RFC 8878 §3.1.1.2.2) that expands to `_MARK`.

The library reads an incomplete frame without an error. So this frame goes behind the body: its content comes out at the
end only if the frames before it were complete.
"""

_thread = threading.local()


class _Source:
    """The body and the mark as a file for the zstd reader."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = (piece for piece in body if piece)
        self._next = next(self._body, None)
        self._rest = memoryview(b"")
        self._is_marked = False

    def read(self, size: int) -> bytes:
        while not self._rest:
            piece = self._next
            self._next = next(self._body, None)
            if self._next is None:
                if self._is_marked:
                    return b""
                # Never in a read of its own: after a header that is cut, libzstd takes a read that begins with a whole
                # frame for that frame, and forgets the header.
                self._is_marked = True
                piece = (piece or b"") + _MARK_FRAME
            self._rest = memoryview(piece or b"")
        if 0 < len(self._rest) - size <= len(_MARK_FRAME):
            size //= 2
        part = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return part


def _unzstd(body: Iterable[bytes]) -> Iterator[bytes]:
    source = _Source(body)
    context = getattr(_thread, "zstd", None)
    if context is None:
        # One for each thread: a decompressor must not be shared, and making one costs more than a small body.
        context = _thread.zstd = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    reader = context.stream_reader(cast(IO[bytes], source), read_size=INPUT_BYTES, read_across_frames=True)
    end = b""
    while True:
        try:
            piece = reader.read(PIECE_BYTES)
        except zstandard.ZstdError as error:
            reason = "needs a window of more than 8 MiB" if "memory" in str(error) else "is damaged"
            raise BadData(f"the zstd body {reason}") from error
        if not piece:
            break
        piece = end + piece
        end = piece[-len(_MARK) :]
        if len(piece) > len(_MARK):
            yield piece[: -len(_MARK)]
    if end != _MARK:
        raise BadData("the zstd body is incomplete")


_DECOMPRESSORS: dict[str, Decompress] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "zstd": _unzstd,
}
