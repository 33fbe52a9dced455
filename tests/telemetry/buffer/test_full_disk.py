"""A file system that is really full, and one that is really read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.telemetry.buffer.rings import ALL, read_all, record, ring

SIZE = 256 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this environment does not allow mounting a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_on_a_full_disk_the_ring_continues_in_memory_and_writes_back_later(small_disk: Path) -> None:
    other = small_disk / "of-another-program"
    with ring(small_disk / "ring", max_bytes=1 << 20) as buffer:
        reader = buffer.reader("one", ALL)
        buffer.append([record("before", size=1000)])
        other.write_bytes(bytes(SIZE - 64 * 1024))
        for number in range(100):
            buffer.append([record(f"r{number}", size=1500)])
        stats = buffer.stats()
        assert stats.memory_only
        assert stats.reason == "No space left on device"
        assert stats.memory_bytes > 50_000
        assert reader.pending().items == 101
        batch = reader.next(max_items=1, max_bytes=1)
        assert batch is not None
        reader.taken(batch)
        other.unlink()
        buffer.maintain()
        assert not buffer.stats().memory_only
        assert buffer.stats().reason == ""
    with ring(small_disk / "ring", max_bytes=1 << 20) as buffer:
        assert read_all(buffer.reader("one", ALL)) == [f"r{number}" for number in range(100)]
        assert buffer.stats().bad_segments == 0


def test_a_kill_on_a_full_disk_leaves_no_half_entry(small_disk: Path) -> None:
    with ring(small_disk / "ring", max_bytes=1 << 20) as buffer:
        for number in range(300):
            buffer.append([record(f"r{number}", size=1500)])
        assert buffer.stats().memory_only
        on_disk = buffer.stats().disk_bytes
        assert on_disk == sum(file.stat().st_size for file in (small_disk / "ring").iterdir())
        copy = small_disk.parent / "copy"
        subprocess.run(["cp", "-a", str(small_disk / "ring"), str(copy)], check=True)
    with ring(copy, max_bytes=1 << 20) as buffer:
        assert buffer.stats().torn_bytes == buffer.stats().bad_segments == 0
        found = read_all(buffer.reader("one", ALL))
        assert found == [f"r{number}" for number in range(len(found))]
        assert len(found) > 100


def test_a_ring_on_a_full_disk_starts(small_disk: Path) -> None:
    (small_disk / "of-another-program").write_bytes(bytes(SIZE - 8192))
    with ring(small_disk / "ring", max_bytes=1 << 20) as buffer:
        reader = buffer.reader("one", ALL)
        for number in range(20):
            buffer.append([record(f"r{number}", size=1500)])
        assert buffer.stats().memory_only
        assert read_all(reader) == [f"r{number}" for number in range(20)]


def test_a_disk_that_becomes_read_only(small_disk: Path) -> None:
    with ring(small_disk / "ring", max_bytes=1 << 20) as buffer:
        buffer.append([record("before")])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with ring(small_disk / "ring", max_bytes=1 << 20) as buffer:
        reader = buffer.reader("one", ALL)
        buffer.append([record("during")])
        assert buffer.stats().memory_only
        assert buffer.stats().reason == "Read-only file system"
        assert read_all(reader) == ["before", "during"]
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        buffer.append([record("after")])
        buffer.maintain()
        assert not buffer.stats().memory_only
    with ring(small_disk / "ring", max_bytes=1 << 20) as buffer:
        assert read_all(buffer.reader("one", ALL)) == ["after"]
