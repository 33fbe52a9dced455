"""Marks: how far the sources of log records were read. They are in the ring with the records, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.telemetry.signals import Record, Signal
from tests.telemetry.buffer.faulty_disk import FULL, FaultyDisk
from tests.telemetry.buffer.rings import read_all, record, ring, segment_files

LOGS = (Signal.LOGS,)


def line(name: str, size: int = 0) -> Record:
    return record(name, signal=Signal.LOGS, size=size)


def marks_of(directory: Path) -> dict[str, object]:
    with ring(directory) as buffer:
        return dict(buffer.marks())


def test_marks_are_there_after_a_restart_and_readers_do_not_see_them(tmp_path: Path) -> None:
    with ring(tmp_path) as buffer:
        reader = buffer.reader("one", LOGS)
        buffer.append([line("a"), record("e", signal=Signal.ERRORS)], {"c1": [1, 10], "c2": [2, 20]})
        buffer.append([line("b")], {"c1": [1, 30]})
        buffer.append([line("c")], {"c2": None})
        assert buffer.marks() == {"c1": [1, 30]}
        assert read_all(reader) == ["a", "b", "c"]
    with ring(tmp_path) as buffer:
        assert buffer.marks() == {"c1": [1, 30]}
        assert read_all(buffer.reader("two", LOGS)) == ["a", "b", "c"]


def test_marks_without_records_are_kept_too(tmp_path: Path) -> None:
    with ring(tmp_path) as buffer:
        buffer.append([], {"began": 7})
    with ring(tmp_path) as buffer:
        buffer.append([record("span")], {"c1": 1})
        buffer.append([], {"began": None})
    assert marks_of(tmp_path) == {"c1": 1}


def test_a_file_cut_at_any_byte_has_a_record_and_its_mark_or_neither(tmp_path: Path) -> None:
    with ring(tmp_path / "whole") as buffer:
        for number in range(4):
            buffer.append([line(str(number))], {"c": number})
    [whole] = segment_files(tmp_path / "whole")
    data = whole.read_bytes()
    seen = set()
    for cut in range(len(data)):
        directory = tmp_path / str(cut)
        directory.mkdir(mode=0o700)
        (directory / whole.name).write_bytes(data[:cut])
        with ring(directory) as buffer:
            found = read_all(buffer.reader("one", LOGS))
            assert found == [str(number) for number in range(len(found))]
            assert buffer.marks() == ({"c": len(found) - 1} if found else {})
        seen.add(len(found))
    assert seen == {0, 1, 2, 3}


def test_marks_stay_when_what_they_stand_behind_is_shipped_and_its_file_removed(tmp_path: Path) -> None:
    with ring(tmp_path) as buffer:
        reader = buffer.reader("one", LOGS)
        buffer.append([line("quiet")], {"quiet": 1})
        for number in range(40):
            buffer.append([line(str(number), size=20_000)], {"busy": number})
            read_all(reader)
        assert buffer.stats().segments <= 2
    for _ in range(3):
        with ring(tmp_path) as buffer:
            assert buffer.marks() == {"quiet": 1, "busy": 39}
            read_all(buffer.reader("one", LOGS))


def test_marks_stay_when_the_last_file_is_full_and_shipped_after_a_restart(tmp_path: Path) -> None:
    with ring(tmp_path) as buffer:
        buffer.reader("one", LOGS)
        buffer.append([line("large", size=100_000)], {"c": 1})
    with ring(tmp_path) as buffer:
        assert read_all(buffer.reader("one", LOGS)) == ["large"]
        assert buffer.marks() == {"c": 1}
    assert marks_of(tmp_path) == {"c": 1}


def test_marks_stay_when_a_full_ring_drops_the_records(tmp_path: Path) -> None:
    with ring(tmp_path) as buffer:
        buffer.reader("one", LOGS)
        buffer.append([line("quiet")], {"quiet": 1})
        for number in range(30):
            buffer.append([line(str(number), size=200_000)], {"busy": number})
        assert buffer.stats().signals[Signal.LOGS].dropped_items > 10
        assert buffer.stats().disk_bytes <= 1 << 20
    assert marks_of(tmp_path) == {"quiet": 1, "busy": 29}


def test_a_full_ring_of_other_data_does_not_drop_the_marks(tmp_path: Path) -> None:
    with ring(tmp_path) as buffer:
        buffer.append([], {"c": 1})
        for number in range(30):
            buffer.append([record(str(number), signal=Signal.ERRORS, size=200_000)])
        buffer.append([line("after")])
    assert marks_of(tmp_path) == {"c": 1}


def test_while_the_disk_is_full_marks_wait_with_their_records(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with ring(tmp_path, disk=disk) as buffer:
        buffer.append([line("a")], {"c": 1})
        disk.failing["write"] = FULL
        buffer.append([line("b")], {"c": 2})
        # What is on disk now is what a kill would leave.
        assert buffer.marks() == {"c": 1}
        disk.failing.clear()
        buffer.maintain()
        assert buffer.marks() == {"c": 2}
    with ring(tmp_path) as buffer:
        assert buffer.marks() == {"c": 2}
        assert read_all(buffer.reader("one", LOGS)) == ["a", "b"]


def test_too_many_marks_for_one_append_are_refused_as_a_whole(tmp_path: Path) -> None:
    with ring(tmp_path) as buffer:
        with pytest.raises(ValueError, match="too many for a block"):
            buffer.append([line("a")], {f"c{number}": "x" * 100 for number in range(1000)})
        assert read_all(buffer.reader("one", LOGS)) == []
        assert buffer.marks() == {}


def test_records_with_marks_are_one_block_however_large(tmp_path: Path) -> None:
    with ring(tmp_path, max_bytes=32 << 20) as buffer:
        buffer.append([line(str(number), size=400_000) for number in range(3)], {"c": 1})
        batch = buffer.reader("one", LOGS).next(max_items=100, max_bytes=1 << 26)
        assert batch is not None
        assert len(batch.blocks) == 1
