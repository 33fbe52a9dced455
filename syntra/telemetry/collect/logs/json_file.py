"""Decodes what the engine's driver `json-file` writes: one JSON object on each line. Pure."""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

import orjson

from syntra.telemetry.collect.logs.line_reader import STREAMS, Line

_row = itemgetter("log", "stream", "time")


class Chunk(NamedTuple):
    """Whole lines of a file."""

    lines: list[Line]
    starts: list[int] | None
    """Where each line begins, from the start of the chunk; None when no line was left out."""
    unreadable: int
    """Lines that are damaged and left out."""


def decode(data: bytes) -> Chunk:
    """Decode whole lines, the last one's end included."""
    try:
        # One call for all of them. Inside JSON text an end of line is escaped, so it is between two lines only.
        found = orjson.loads(b"[%b]" % data[:-1].replace(b"\n", b","))
        lines = list(map(_row, found))
        if len(lines) == data.count(b"\n") and {line[1] for line in lines}.issubset(STREAMS):
            return Chunk(lines, None, 0)
    except (ValueError, KeyError, TypeError):
        pass
    return _decode_each(data)


def start_of_line(data: bytes, index: int) -> int:
    """Where a line begins; the first has index 0."""
    return sum(map(len, data.split(b"\n", index)[:index])) + index


def start_of_last(data: bytes) -> int:
    """Where the last line begins."""
    return data.rfind(b"\n", 0, -1) + 1


def _decode_each(data: bytes) -> Chunk:
    lines: list[Line] = []
    starts: list[int] = []
    unreadable = at = 0
    for raw in data.split(b"\n")[:-1]:
        # A crash of the host can leave zeros in the middle of a file.
        row = _decode_one(raw.lstrip(b"\0"))
        if row is None:
            unreadable += 1
        else:
            lines.append(row)
            starts.append(at)
        at += len(raw) + 1
    return Chunk(lines, starts, unreadable)


def _decode_one(raw: bytes) -> Line | None:
    try:
        text, stream, time = _row(orjson.loads(raw))
    except (ValueError, KeyError, TypeError):
        return None
    is_line = isinstance(text, str) and stream in STREAMS and isinstance(time, str)
    return (text, stream, time) if is_line else None
