"""The format of a segment: whole, cut at every index, and with every bit changed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.telemetry.buffer import entry
from syntra.telemetry.buffer.intervals import Intervals

MARKER = b"\x01mk\xff"


def segment(*frames: bytes) -> bytes:
    return b"".join(
        entry.pack(MARKER, entry.BLOCK, frame, number, 2 * number, 10 + number, 1000 + number)
        for number, frame in enumerate(frames)
    )


def frames_of(data: bytes, found: entry.Scan) -> list[bytes]:
    return [data[each.data_start : each.end] for each in found.entries]


def test_what_is_packed_is_found() -> None:
    data = segment(b"one", b"", b"three")
    found = entry.scan(data, MARKER)
    assert frames_of(data, found) == [b"one", b"", b"three"]
    assert [each.sequence for each in found.entries] == [10, 11, 12]
    assert [(each.items, each.raw, each.at_ns) for each in found.entries] == [(0, 0, 1000), (1, 2, 1001), (2, 4, 1002)]
    assert (found.end, found.damaged) == (len(data), 0)


def test_cut_at_every_index_the_entries_before_are_found_and_nothing_else() -> None:
    frames = [b"one", b"two two", b"three"]
    data = segment(*frames)
    ends = [each.end for each in entry.scan(data, MARKER).entries]
    for whole in (True, False):
        for cut in range(len(data) + 1):
            found = entry.scan(data[:cut], MARKER, whole=whole)
            complete = [end for end in ends if end <= cut]
            assert frames_of(data, found) == frames[: len(complete)]
            assert (found.end, found.damaged) == (complete[-1] if complete else 0, 0)


def test_every_changed_bit_is_noticed_and_only_its_entry_is_lost() -> None:
    frames = [b"one", b"two two", b"three"]
    data = segment(*frames)
    ends = [each.end for each in entry.scan(data, MARKER).entries]
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        hit = next(number for number, end in enumerate(ends) if bit // 8 < end)
        found = entry.scan(bytes(changed), MARKER)
        assert frames_of(bytes(changed), found) == frames[:hit] + frames[hit + 1 :]
        assert (found.damaged > 0) == (hit < 2)


def test_an_entry_of_another_segment_is_not_one_of_this_segment() -> None:
    other = entry.pack(b"else", entry.BLOCK, b"stale", 1, 1, 11, 1)
    data = segment(b"one") + other + entry.pack(MARKER, entry.BLOCK, b"two", 1, 1, 11, 1)
    assert frames_of(data, entry.scan(data, MARKER)) == [b"one", b"two"]


def test_damage_ends_a_scan_of_a_part_before_it() -> None:
    data = segment(b"one") + b"garbage" + segment(b"two")
    found = entry.scan(data, MARKER, whole=False)
    assert frames_of(data, found) == [b"one"]
    assert found.end == len(segment(b"one"))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=5), st.binary(max_size=200), st.integers(0, 400))
def test_any_damage_loses_at_most_what_it_touches(frames: list[bytes], damage: bytes, at: int) -> None:
    data = segment(*frames)
    at = min(at, len(data))
    changed = data[:at] + damage + data[at + len(damage) :]
    before = [each for each in entry.scan(data, MARKER).entries if each.end <= at]
    behind = [each for each in entry.scan(data, MARKER).entries if each.start >= at + len(damage)]
    found = entry.scan(changed, MARKER)
    kept = frames_of(changed, found)
    expected = [data[each.data_start : each.end] for each in (*before, *behind)]
    assert [frame for frame in kept if frame in expected] == kept or damage in data
    assert len(kept) >= len(expected)


def test_random_bytes_hold_no_entry() -> None:
    noise = random.Random(1).randbytes(100_000)
    assert entry.scan(noise, MARKER).entries == []
    assert entry.scan(noise.replace(b"\x00", MARKER), MARKER).entries == []


def test_positions_come_back() -> None:
    taken = {"control-plane": Intervals([(0, 7), (9, 12)]), "export": Intervals()}
    assert entry.decode_positions(entry.encode_positions(taken)) == taken


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a":1}', b'{"a":[1]}', b'{"a":[["x",1]]}', b'{"a":[[1]]}'])
def test_bad_positions_are_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        entry.decode_positions(data)
