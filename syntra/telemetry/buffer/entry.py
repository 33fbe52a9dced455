"""The format of a segment: entries one behind the other, each with length and checksum. Pure.

An entry is a header of 40 bytes, little endian, and its data:

    marker   4 bytes  of the segment, random, part of the file's name
    crc      u32      CRC-32 of everything behind it, header and data
    version  u8       1
    kind     u8       1 block, 2 positions, 3 marks
    marks    u16      bytes of marks at the end of a block's data
    length   u32      bytes of data
    items    u32      spans, data points, … in a block
    raw      u32      bytes of the block before compression
    sequence u64      the block's number, or for positions the number of the next block
    time     u64      nanoseconds since 1970, when it was appended

The data of a block is one zstd frame, and the marks that were appended with it. Marks say how far the sources of the
data were read; since one checksum covers both, neither is ever there without the other. They are a skippable frame
(RFC 8878, section 3.1.2), which a version of the agent that does not know them takes for part of the block. An entry of
kind marks has all marks of its time, and replaces those before it.

The marker is random so that neither bytes that a sender chose nor pages of a deleted file, which a power cut may leave
in a new one, can be taken for an entry.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from zlib import crc32

import orjson

from syntra.model.fields import Json
from syntra.telemetry.buffer.intervals import Intervals

BLOCK = 1
POSITIONS = 2
MARKS = 3

_VERSION = 1
_FIELDS = struct.Struct("<BBHIIIQQ")
_CRC = struct.Struct("<I")
_FIELDS_AT = 8
HEADER_BYTES = _FIELDS_AT + _FIELDS.size
MARKER_BYTES = 4
_SKIPPABLE = struct.Struct("<II")
_SKIPPABLE_MAGIC = 0x184D2A50
MAX_MARKS_BYTES = (1 << 16) - 1
"""The most that the marks of one block may take."""
MAX_NUMBER = 1 << 62
"""Sequence numbers above are damage. Real ones start at 1, or at the time in nanoseconds."""

Marks = Mapping[str, Json]
"""By name of a source: how far it was read. None for a source that is gone."""


class Entry(NamedTuple):
    """One entry found in a buffer. `start` and `end` are its place there, header included."""

    kind: int
    items: int
    raw: int
    sequence: int
    at_ns: int
    start: int
    end: int
    marks: int = 0
    """Bytes of marks at the end of the data."""

    @property
    def data_start(self) -> int:
        """Where the data begins."""
        return self.start + HEADER_BYTES

    @property
    def marks_start(self) -> int:
        """Where the marks begin, behind the data of a block."""
        return self.end - self.marks


class Scan(NamedTuple):
    """What a buffer holds: its entries, where the last one ends, and how many bytes before that are damaged."""

    entries: list[Entry]
    end: int
    damaged: int


def pack(
    marker: bytes, kind: int, data: bytes, items: int, raw: int, sequence: int, at_ns: int, marks: bytes = b""
) -> bytes:
    """Encode an entry; `marks` are those of a block, as `encode_block_marks` returns them."""
    fields = _FIELDS.pack(_VERSION, kind, len(marks), len(data) + len(marks), items, raw, sequence, at_ns)
    checksum = crc32(data, crc32(fields))
    if marks:
        checksum = crc32(marks, checksum)
    return b"".join((marker, _CRC.pack(checksum), fields, data, marks))


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
    version, kind, marks, length, items, raw, sequence, at_ns = _FIELDS.unpack_from(data, offset + _FIELDS_AT)
    end = offset + HEADER_BYTES + length
    if end > len(data) or version != _VERSION or sequence > MAX_NUMBER or marks > length:
        return None
    if crc32(memoryview(data)[offset + _FIELDS_AT : end]) != _CRC.unpack_from(data, offset + MARKER_BYTES)[0]:
        return None
    return Entry(kind, items, raw, sequence, at_ns, offset, end, marks)


def incomplete_bytes(data: bytes, offset: int) -> int:
    """How many bytes the entry at `offset` claims to need, at least a header's; damaged headers claim anything."""
    if offset + HEADER_BYTES > len(data):
        return HEADER_BYTES
    return int(HEADER_BYTES + _FIELDS.unpack_from(data, offset + _FIELDS_AT)[3])


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


def encode_marks(marks: Marks) -> bytes:
    """Marks as the data of a marks entry."""
    return orjson.dumps(marks)


def encode_block_marks(marks: Marks) -> bytes:
    """Marks for the end of a block; nothing for none. Raises ValueError when they take more than MAX_MARKS_BYTES."""
    if not marks:
        return b""
    data = orjson.dumps(marks)
    if len(data) + _SKIPPABLE.size > MAX_MARKS_BYTES:
        raise ValueError(f"{len(data)} bytes of marks are too many for a block")
    return _SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(data)) + data


def decode_marks(data: bytes) -> dict[str, Json]:
    """Reverse `encode_marks`. Raises ValueError for anything else."""
    document = orjson.loads(data)
    if not isinstance(document, dict):
        raise ValueError("marks are not an object")
    return document


def decode_block_marks(data: bytes) -> dict[str, Json]:
    """Reverse `encode_block_marks` for marks that are there. Raises ValueError for anything else."""
    return decode_marks(data[_SKIPPABLE.size :])
