"""Reads what the directory of the ring holds when it is opened, and continues behind it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from syntra.telemetry.buffer.intervals import Intervals
from syntra.telemetry.buffer.signal_log import SignalLog

if TYPE_CHECKING:
    from syntra.telemetry.buffer.store import Store


def attach(store: Store) -> None:
    """Read all segments, and continue behind the last one of each signal. Raises OSError."""
    newer = {signal: each.marks for signal, each in store.logs.items()}
    for each in store.logs.values():
        each.marks = {}
    for signal, number, marker, name in store.storage.open():
        each = store.logs[signal]
        each.next_number = max(each.next_number, number + 1)
        _load(store, each, name, marker)
    for each in store.logs.values():
        each.marks.update(newer[each.signal])
        _continue(store, each)
        store.trim(each)
        each.count_again()
    store.make_room(0)


def _load(store: Store, each: SignalLog, name: str, marker: bytes) -> None:
    after = each.segments[-1].next_sequence if each.segments else 0
    try:
        segment, stored = store.storage.load(name, marker, after)
    except OSError:
        store.storage.bad_segments += 1
        store.storage.set_aside(name)
        return
    if segment.size == 0 and segment.tail:
        segment.damaged = segment.tail
        store.storage.bad_segments += 1
        store.storage.remove(segment)
        return
    if segment.damaged:
        store.storage.bad_segments += 1
    if stored.positions is not None:
        each.stored_positions = stored.positions
    for replaces, marks in stored.marks:
        if replaces:
            each.marks = {}
        each.mark(marks)
    each.segments.append(segment)


def _continue(store: Store, each: SignalLog) -> None:
    """Cut what a crash left, and continue behind the last entry."""
    for name, taken in each.stored_positions.items():
        each.taken[name] = each.taken.get(name, Intervals()).union(taken)
    each.stored_positions = {}
    if not each.segments:
        return
    last = each.segments[-1]
    if last.tail:
        tail = last.tail
        if last.cut():
            store.torn_bytes += tail
            store.storage.bytes -= tail
    if last.is_writable and not last.tail and last.size < store.segment_bytes:
        each.active = last
    highest = max((spans[-1][1] for spans in (taken.spans for taken in each.taken.values()) if spans), default=0)
    following = max(last.next_sequence, highest + 1, 1)
    if each.memory and each.memory[0].sequence < following:
        # The clock went back between two starts without a directory. What is in memory gets new numbers.
        each.memory = deque(block._replace(sequence=number) for number, block in enumerate(each.memory, following))
        each.next_sequence = following + len(each.memory)
        for feed in each.feeds.values():
            feed.out = Intervals()
    else:
        each.next_sequence = max(each.next_sequence if each.memory else 1, following)
