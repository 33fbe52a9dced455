"""The format of a segment: entries one behind the other, each with length and checksum. Pure.

An entry is a header of 40 bytes, little endian, and its data:

    marker   4 bytes  of the segment, random, part of the file's name
    crc      u32      CRC-32 of everything behind it, header and data
    version  u8       1
    kind     u8       1 block, 2 positions
    –        u16      0
    length   u32      bytes of data
    items    u32      spans, data points, … in a block
    raw      u32      bytes of the block before compression
    sequence u64      the block's number, or for positions the number of the next block
    time     u64      nanoseconds since 1970, when it was appended

The data of a block is one zstd frame. The marker is random so that neither bytes that a sender chose nor pages of a
deleted file, which a power cut may leave in a new one, can be taken for an entry.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from zlib import crc32

from syntra.telemetry.buffer.intervals import Intervals

BLOCK = 1
POSITIONS = 2

_VERSION = 1
_FIELDS = struct.Struct("<BBxxIIIQQ")
_CRC = struct.Struct("<I")
_FIELDS_AT = 8
HEADER_BYTES = _FIELDS_AT + _FIELDS.size
MARKER_BYTES = 4
MAX_NUMBER = 1 << 62
"""Sequence numbers above are damage. Real ones start at 1, or at the time in nanoseconds."""


class Entry(NamedTuple):
    """One entry found in a buffer. `start` and `end` are its place there, header included."""

    kind: int
    items: int
    raw: int
    sequence: int
    at_ns: int
    start: int
    end: int

    @property
    def data_start(self) -> int:
        """Where the data begins."""
        return self.start + HEADER_BYTES


class Scan(NamedTuple):
    """What a buffer holds: its entries, where the last one ends, and how many bytes before that are damaged."""

    entries: list[Entry]
    end: int
    damaged: int


def pack(marker: bytes, kind: int, data: bytes, items: int, raw: int, sequence: int, at_ns: int) -> bytes:
    """Encode an entry."""
    fields = _FIELDS.pack(_VERSION, kind, len(data), items, raw, sequence, at_ns)
    return b"".join((marker, _CRC.pack(crc32(data, crc32(fields))), fields, data))


def walk(data: bytes, marker: bytes, *, whole: bool = True) -> Iterator[Entry]:
    """The entries of `data`, which begins with one or with damage.

    Damage is skipped up to the next valid entry. Without `whole` more bytes follow `data` in the file: the walk then
    ends before the first entry that is not complete and valid, for a caller that reads on from there.
    """
    offset, size = 0, len(data)
    while offset + HEADER_BYTES <= size:
        found = _entry_at(data, marker, offset)
        if found is not None:
            yield found
            offset = found.end
        elif whole:
            offset = data.find(marker, offset + 1)
            if offset < 0:
                break
        else:
            break


def scan(data: bytes, marker: bytes, *, whole: bool = True) -> Scan:
    """All of `walk`, with what it skipped."""
    entries: list[Entry] = []
    end = damaged = 0
    for found in walk(data, marker, whole=whole):
        entries.append(found)
        damaged += found.start - end
        end = found.end
    return Scan(entries, end, damaged)


def _entry_at(data: bytes, marker: bytes, offset: int) -> Entry | None:
    if not data.startswith(marker, offset):
        return None
    version, kind, length, items, raw, sequence, at_ns = _FIELDS.unpack_from(data, offset + _FIELDS_AT)
    end = offset + HEADER_BYTES + length
    if end > len(data) or version != _VERSION or sequence > MAX_NUMBER:
        return None
    if crc32(memoryview(data)[offset + _FIELDS_AT : end]) != _CRC.unpack_from(data, offset + MARKER_BYTES)[0]:
        return None
    return Entry(kind, items, raw, sequence, at_ns, offset, end)


def incomplete_bytes(data: bytes, offset: int) -> int:
    """How many bytes the entry at `offset` claims to need, at least a header's; damaged headers claim anything."""
    if offset + HEADER_BYTES > len(data):
        return HEADER_BYTES
    return int(HEADER_BYTES + _FIELDS.unpack_from(data, offset + _FIELDS_AT)[2])


def encode_positions(taken: Mapping[str, Intervals]) -> bytes:
    """What each consumer has taken, as the data of a positions entry."""
    return json.dumps({name: done.spans for name, done in taken.items()}, separators=(",", ":")).encode()


def decode_positions(data: bytes) -> dict[str, Intervals]:
    """Reverse `encode_positions`. Raises ValueError for anything else."""
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("positions are not an object")
    taken = {}
    for name, spans in document.items():
        try:
            taken[name] = Intervals((int(first), int(last)) for first, last in spans)
        except TypeError as exc:
            raise ValueError("a position is not a list of pairs") from exc
    return taken
