"""The entries that a segment begins with: positions and marks, so that the segments before it can be removed. Pure."""

from __future__ import annotations

from syntra.telemetry.buffer import entry
from syntra.telemetry.buffer.signal_log import SignalLog


def beginning(each: SignalLog, marker: bytes, next_sequence: int, at_ns: int) -> bytes:
    """What a segment of this signal begins with now."""
    positions = positions_entry(each, marker, next_sequence, at_ns)
    return positions + marks_entry(each, marker, next_sequence, at_ns) if each.marks else positions


def beginning_bytes(each: SignalLog) -> int:
    """Its size."""
    positions = entry.HEADER_BYTES + len(entry.encode_positions(each.taken))
    return positions + entry.HEADER_BYTES + len(entry.encode_marks(each.marks)) if each.marks else positions


def positions_entry(each: SignalLog, marker: bytes, next_sequence: int, at_ns: int) -> bytes:
    """What each consumer has taken."""
    data = entry.encode_positions(each.taken)
    return entry.pack(marker, entry.POSITIONS, data, 0, 0, next_sequence, at_ns)


def marks_entry(each: SignalLog, marker: bytes, next_sequence: int, at_ns: int) -> bytes:
    """All marks."""
    return entry.pack(marker, entry.MARKS, entry.encode_marks(each.marks), 0, 0, next_sequence, at_ns)
