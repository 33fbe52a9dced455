"""A crash at every call that changes the disk, and a failure of every such call: nothing acknowledged is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.signals import Signal
from tests.telemetry.buffer.faulty_disk import BROKEN, FULL, FaultyDisk, PowerCut
from tests.telemetry.buffer.rings import ALL, Clock, names, read_all, record, ring, segment_files

BUDGET = 64 * 1024


class Story:
    """Appends and reads in a fixed order, with rotation, and knows what was acknowledged and taken."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.acknowledged: list[str] = []
        self.taking: list[str] = []
        self.taken: list[str] = []

    def run(self, buffer: Buffer) -> None:
        reader = buffer.reader("one", ALL)
        for number in range(12):
            signal = (Signal.TRACES, Signal.LOGS)[number % 2]
            self.append(buffer, f"r{number}", signal)
            if number % 3 == 2:
                batch = reader.next(max_items=2, max_bytes=1 << 20)
                assert batch is not None
                self.taking = names(batch)
                reader.taken(batch)
                self.taken += self.taking
                self.taking = []
        buffer.forget("one who never read")

    def append(self, buffer: Buffer, name: str, signal: Signal) -> None:
        self.begun.append(name)
        buffer.append([record(name, signal=signal, size=1700)])
        self.acknowledged.append(name)


def calls_of_the_story(directory: Path) -> int:
    disk = FaultyDisk()
    with ring(directory, max_bytes=BUDGET, disk=disk) as buffer:
        Story().run(buffer)
        return disk.calls


@pytest.mark.parametrize("short", [0, 1, 700])
def test_a_crash_at_every_write_loses_nothing_acknowledged(tmp_path: Path, short: int) -> None:
    calls = calls_of_the_story(tmp_path / "whole")
    assert calls > 20
    for cut_at in range(1, calls + 1):
        directory = tmp_path / "ring"
        shutil.rmtree(directory, ignore_errors=True)
        story, disk = Story(), FaultyDisk()
        disk.cut_at, disk.short = cut_at, None
        with ring(directory, max_bytes=BUDGET, disk=disk) as buffer:
            disk.short = short
            _without_short_writes(disk, short)
            with pytest.raises(PowerCut):
                story.run(buffer)
        with ring(directory, max_bytes=BUDGET) as buffer:
            found = read_all(buffer.reader("one", ALL))
            assert len(found) == len(set(found))
            assert set(story.acknowledged) - set(story.taken) - set(story.taking) <= set(found)
            assert set(found) <= set(story.begun) - set(story.taken)
            buffer.append([record("later")])
            assert read_all(buffer.reader("one", ALL)) == ["later"]
            assert buffer.stats().bad_segments <= 1


def _without_short_writes(disk: FaultyDisk, short: int) -> None:
    """Let writes before the cut be whole: only the last one is short."""
    real = disk.write

    def write(handle: int, data: bytes | memoryview) -> int:
        is_last = disk.cut_at is not None and disk.calls + 1 >= disk.cut_at
        disk.short = short if is_last else None
        return real(handle, data)

    disk.write = write  # type: ignore[method-assign]


@pytest.mark.parametrize("short", [None, 1, 700])
@pytest.mark.parametrize("stays_cut", [False, True])
def test_a_failure_of_every_call_loses_nothing(tmp_path: Path, short: int | None, stays_cut: bool) -> None:
    calls = calls_of_the_story(tmp_path / "whole")
    for fail_at in range(1, calls + 1):
        directory = tmp_path / "ring"
        shutil.rmtree(directory, ignore_errors=True)
        story, disk = Story(), FaultyDisk()
        disk.fail_at, disk.short = fail_at, short
        if stays_cut:
            disk.failing["truncate"] = BROKEN
        with ring(directory, max_bytes=BUDGET, disk=disk) as buffer:
            story.run(buffer)
            buffer.maintain()
            assert buffer.stats().memory_only is False
            assert buffer.stats().reason == ""
            kept = set(story.acknowledged) - set(story.taken)
            assert buffer.reader("two", ALL).pending().items >= len(kept)
        with ring(directory, max_bytes=BUDGET) as buffer:
            found = read_all(buffer.reader("one", ALL))
            assert sorted(found) == sorted(kept)


@pytest.mark.parametrize("code", [FULL, BROKEN])
def test_while_no_write_works_the_ring_continues_in_memory_and_says_so(tmp_path: Path, code: int) -> None:
    disk = FaultyDisk()
    with ring(tmp_path / "ring", disk=disk) as buffer:
        reader = buffer.reader("one", ALL)
        buffer.append([record("before")])
        disk.failing["write"] = code
        buffer.append([record("during1"), record("log", signal=Signal.LOGS)])
        buffer.append([record("during2")])
        stats = buffer.stats()
        assert stats.memory_only
        assert stats.reason in {"No space left on device", "Input/output error"}
        assert stats.memory_bytes > 0
        buffer.maintain()
        assert buffer.stats().memory_only
        batch = reader.next(max_items=1, max_bytes=1)
        assert batch is not None
        assert names(batch) == ["log"]
        reader.taken(batch)
        assert reader.pending().items == 3
        disk.failing.clear()
        buffer.maintain()
        assert not buffer.stats().memory_only
        assert buffer.stats().reason == ""
        buffer.append([record("after")])
        assert reader.pending().items == 4
    with ring(tmp_path / "ring") as buffer:
        assert read_all(buffer.reader("one", ALL)) == ["before", "during1", "during2", "after"]


def test_memory_is_bounded_and_drops_are_counted(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with ring(tmp_path / "ring", max_bytes=BUDGET, disk=disk) as buffer:
        reader = buffer.reader("one", ALL)
        disk.failing["create"] = FULL
        buffer.append([record("error", signal=Signal.ERRORS, size=1000)])
        for number in range(100):
            buffer.append([record(f"r{number}", size=1000)])
            assert buffer.stats().memory_bytes <= BUDGET // 4
        dropped = buffer.stats().signals[Signal.TRACES].dropped_items
        assert 80 < dropped < 90
        assert reader.pending().items == 101 - dropped
        disk.failing.clear()
        buffer.maintain()
        expected = ["error", *(f"r{number}" for number in range(dropped, 100))]
    with ring(tmp_path / "ring", max_bytes=BUDGET) as buffer:
        assert read_all(buffer.reader("one", ALL)) == expected


def test_what_is_taken_while_the_disk_fails_is_remembered_when_it_works_again(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with ring(tmp_path / "ring", disk=disk) as buffer:
        reader = buffer.reader("one", ALL)
        buffer.append([record("a")])
        buffer.append([record("b")])
        batch = reader.next(max_items=1, max_bytes=1)
        assert batch is not None
        disk.failing["write"] = FULL
        reader.taken(batch)
        assert buffer.stats().reason == "No space left on device"
        disk.failing.clear()
        buffer.maintain()
    with ring(tmp_path / "ring") as buffer:
        assert read_all(buffer.reader("one", ALL)) == ["b"]


def test_a_directory_that_cannot_be_opened_is_used_as_soon_as_it_can(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        buffer.append([record("old1")])
        buffer.append([record("old2")])
        reader = buffer.reader("one", ALL)
        batch = reader.next(max_items=1, max_bytes=1)
        assert batch is not None
        reader.taken(batch)
    disk = FaultyDisk()
    disk.failing["open_directory"] = BROKEN
    with ring(tmp_path / "ring", disk=disk) as buffer:
        reader = buffer.reader("one", ALL)
        assert buffer.stats().memory_only
        buffer.append([record("new1")])
        buffer.append([record("new2")])
        batch = reader.next(max_items=1, max_bytes=1)
        assert batch is not None
        assert names(batch) == ["new1"]
        reader.taken(batch)
        disk.failing.clear()
        buffer.maintain()
        assert not buffer.stats().memory_only
        assert reader.pending().items == 2
    with ring(tmp_path / "ring") as buffer:
        assert read_all(buffer.reader("one", ALL)) == ["old2", "new2"]
        assert buffer.stats().signals[Signal.TRACES].lost_blocks == 0


def test_a_segment_that_cannot_be_read_is_left_out_after_some_attempts(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with ring(tmp_path / "ring", disk=disk) as buffer:
        reader = buffer.reader("one", ALL)
        buffer.append([record("a", items=4)])
        disk.failing["read"] = BROKEN
        for _ in range(4):
            assert reader.next(max_items=1, max_bytes=1) is None
        disk.failing.clear()
        buffer.append([record("b")])
        assert read_all(reader) == ["b"]
        assert buffer.stats().signals[Signal.TRACES].lost_blocks == 1
        assert buffer.stats().read_failures == 3
        assert reader.pending().items == 0


def test_a_read_that_fails_once_loses_nothing(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with ring(tmp_path / "ring", disk=disk) as buffer:
        reader = buffer.reader("one", ALL)
        buffer.append([record("a")])
        disk.failing["read"] = BROKEN
        assert reader.next(max_items=1, max_bytes=1) is None
        disk.failing.clear()
        assert read_all(reader) == ["a"]


def test_a_ring_whose_files_cannot_be_removed_is_still_within_its_budget(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with ring(tmp_path / "ring", max_bytes=BUDGET, disk=disk) as buffer:
        disk.failing["unlink"] = BROKEN
        for number in range(50):
            buffer.append([record(f"r{number}", size=1500)])
        assert sum(file.stat().st_size for file in segment_files(tmp_path / "ring")) <= BUDGET
        assert buffer.stats().memory_only
        disk.failing.clear()
        buffer.maintain()
        assert not buffer.stats().memory_only
        assert sum(file.stat().st_size for file in segment_files(tmp_path / "ring")) <= BUDGET
        found = read_all(buffer.reader("one", ALL))
        dropped = buffer.stats().signals[Signal.TRACES].dropped_items
    assert found == [f"r{number}" for number in range(50 - len(found), 50)]
    assert dropped == 50 - len(found)


def _sync_fails(directory: Path, check: Callable[[Buffer], None], fsync: str) -> None:
    disk = FaultyDisk()
    disk.failing["sync"] = BROKEN
    with ring(directory, disk=disk, fsync=fsync) as buffer:
        buffer.append([record("a")])
        buffer.maintain()
        assert buffer.stats().sync_failures >= 1
        assert buffer.stats().reason == "Input/output error"
        check(buffer)
        disk.failing.clear()
        buffer.append([record("b")])
        buffer.maintain()
        assert buffer.stats().reason == ""
        assert len(segment_files(directory)) == 2
        assert read_all(buffer.reader("one", ALL)) == ["a", "b"]


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_after_a_failed_sync_nothing_is_appended_to_that_segment(tmp_path: Path, fsync: str) -> None:
    _sync_fails(tmp_path / "ring", lambda buffer: None, fsync)


def test_the_clock_may_go_back_between_starts_without_a_directory(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.failing["open_directory"] = BROKEN
    with ring(tmp_path / "ring", disk=disk) as buffer:
        buffer.append([record("a")])
        disk.failing.clear()
        buffer.maintain()
    disk.failing["open_directory"] = BROKEN
    clock = Clock()
    clock.now = 1000
    buffer = Buffer.open(tmp_path / "ring", max_bytes=BUDGET, disk=disk, clock=clock)
    reader = buffer.reader("one", ALL)
    buffer.append([record("b")])
    assert reader.next(max_items=1, max_bytes=1) is not None
    disk.failing.clear()
    buffer.maintain()
    assert sorted(read_all(reader)) == ["a", "b"]
    buffer.close()
