"""Appending on an event loop, and waiting for the disk."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from syntra.telemetry.buffer.disk import Disk
from syntra.telemetry.buffer.errors import RecordTooLarge
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.signals import Signal
from tests.telemetry.buffer.rings import ALL, names, read_all, record, ring


class CountingDisk(Disk):
    """Counts writes and syncs; a sync waits for `gate`."""

    def __init__(self) -> None:
        self.writes = 0
        self.syncs = 0
        self.syncing = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, handle: int, data: bytes | memoryview) -> int:
        self.writes += 1
        return super().write(handle, data)

    def sync(self, handle: int) -> None:
        self.syncing.set()
        assert self.gate.wait(30)
        self.syncs += 1
        os.fdatasync(handle)


async def test_appends_of_one_cycle_share_a_write_and_a_block(tmp_path: Path) -> None:
    disk = CountingDisk()
    with ring(tmp_path / "ring", disk=disk) as buffer:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(buffer.append_async([record(f"r{number}", items=2)]))
        assert disk.writes == 1
        batch = buffer.reader("one", ALL).next(max_items=100, max_bytes=1000)
        assert batch is not None
        assert (len(batch.blocks), batch.items) == (1, 40)
        assert names(batch) == [f"r{number}" for number in range(20)]


@pytest.mark.virtual_time
async def test_appends_within_the_gathering_time_share_a_write(tmp_path: Path) -> None:
    disk = CountingDisk()
    with ring(tmp_path / "ring", disk=disk, gather_secs=0.002) as buffer:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(buffer.append_async([record(f"r{number}")]))
                await asyncio.sleep(0.0005)
            assert disk.writes == 0
        assert disk.writes == 1
        assert read_all(buffer.reader("one", ALL)) == ["r0", "r1", "r2"]


def test_a_loop_that_ended_early_does_not_block_the_next_one(tmp_path: Path) -> None:
    async def begin_and_leave(buffer: Buffer) -> None:
        async with asyncio.TaskGroup() as group:
            left = group.create_task(buffer.append_async([record("left")]))
            await asyncio.sleep(0)
            left.cancel()

    with ring(tmp_path / "ring", gather_secs=0.3) as buffer:
        asyncio.run(begin_and_leave(buffer))
        asyncio.run(buffer.append_async([record("next")]))
        assert read_all(buffer.reader("one", ALL)) == ["next"]


async def test_a_block_has_at_most_the_items_of_a_batch(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(buffer.append_async([record(f"r{number}", items=300)]))
        reader = buffer.reader("one", ALL)
        while batch := reader.next(max_items=1, max_bytes=1):
            assert batch.items in {600, 900}
            reader.taken(batch)
        assert buffer.stats().signals[Signal.TRACES].appended_items == 6000


async def test_a_large_append_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    loop_thread, threads = threading.current_thread(), []

    class WatchedDisk(Disk):
        def write(self, handle: int, data: bytes | memoryview) -> int:
            threads.append(threading.current_thread())
            return super().write(handle, data)

    with ring(tmp_path / "ring", max_bytes=8 << 20, disk=WatchedDisk()) as buffer:
        await buffer.append_async([record("large", size=1 << 20)])
        await buffer.append_async([record("small")])
        assert threads[0] is not loop_thread
        assert threads[1] is loop_thread
        assert sorted(read_all(buffer.reader("one", ALL))) == ["large", "small"]


async def test_an_append_whose_caller_is_cancelled_does_not_hurt_the_others(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(buffer.append_async([record("gone")]))
            group.create_task(buffer.append_async([record("stays")]))
            await asyncio.sleep(0)
            gone.cancel()
        assert "stays" in read_all(buffer.reader("one", ALL))


async def test_the_caller_gets_the_error(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        with pytest.raises(RecordTooLarge):
            await buffer.append_async([record("huge", size=50_000)])
        await buffer.append_async([record("fits")])
        assert read_all(buffer.reader("one", ALL)) == ["fits"]


async def test_with_fsync_always_an_append_waits_for_the_disk_and_the_loop_does_not(tmp_path: Path) -> None:
    disk = CountingDisk()
    with ring(tmp_path / "ring", disk=disk, fsync="always") as buffer:
        disk.gate.clear()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(buffer.append_async([record("a")]))
            await asyncio.to_thread(disk.syncing.wait, 30)
            for _ in range(10):
                await asyncio.sleep(0)
            assert not waiting.done()
            disk.gate.set()
        assert disk.syncs > 0
        await buffer.append_async([])


def test_with_fsync_always_one_sync_serves_all_that_wait(tmp_path: Path) -> None:
    disk = CountingDisk()
    with ring(tmp_path / "ring", disk=disk, fsync="always") as buffer:
        buffer.append([record("first")])
        before = disk.syncs
        disk.gate.clear()
        threads = [threading.Thread(target=buffer.append, args=([record(f"r{number}")],)) for number in range(20)]
        for thread in threads:
            thread.start()
        reader = buffer.reader("one", ALL)
        found: list[str] = []
        while len(found) < 21 and reader.wait(30):
            found += read_all(reader)
        assert all(thread.is_alive() for thread in threads)
        disk.gate.set()
        for thread in threads:
            thread.join(30)
        # One round for the append that came first, one for the others, and one for what the reader took meanwhile.
        assert disk.syncs - before <= 3


def test_with_fsync_interval_the_ring_syncs_by_itself(tmp_path: Path) -> None:
    disk = CountingDisk()
    with ring(tmp_path / "ring", disk=disk) as buffer:
        buffer.append([record("a")])
        assert disk.syncing.wait(30)


async def test_a_reader_on_a_loop_wakes_when_something_arrives(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        reader = buffer.reader("one", [Signal.LOGS])
        assert await reader.wait_async(0.01) is False
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(reader.wait_async(30))
            await asyncio.sleep(0)
            await buffer.append_async([record("not for it")])
            await buffer.append_async([record("for it", signal=Signal.LOGS)])
        assert waiting.result() is True
        assert await reader.wait_async(0.01) is True
