"""Container logs from the engine's files to the ring: each line once, whatever happens in between."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from syntra.telemetry.collect.logs.file_tail import FileTail
from syntra.telemetry.process.container_logs import MEMORY_BYTES
from tests.engine import wait_until
from tests.telemetry.buffer.faulty_disk import FULL, FaultyDisk
from tests.telemetry.collect.logs.rigs import START_NS, JsonFile, attributes_of, rig, target_of


def numbered(first: int, last: int) -> str:
    return "".join(f"line {number}\n" for number in range(first, last))


def lines_of(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last)]


def test_lines_come_with_time_stream_and_resource(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "c1")
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        file.write("INFO begins\n")
        file.write("broken\n", "stderr")
        assert sorted(running.wait(2)) == ["INFO begins", "broken"]
        by_body = {record.body.string_value: record for record in running.records()}
        first = by_body["INFO begins"]
        assert (first.severity_number, first.severity_text) == (9, "INFO")
        assert first.time_unix_nano == first.observed_time_unix_nano == 1_790_000_000_000_001_000
        assert attributes_of(by_body["broken"]) == {"log.iostream": "stderr"}
        resource = running.requests[0].resource_logs[0].resource
        assert {one.key: one.value.string_value for one in resource.attributes} == {
            "service.name": "web",
            "syntra.service.id": "svc_web",
            "container.id": "c1",
        }


def test_each_line_once_while_the_engine_rotates_under_load(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "c1", max_size=40_000, max_files=5)
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        for first in range(0, 20_000, 100):
            file.write(numbered(first, first + 100))
            # The writer is not faster than the reader by more than the engine keeps.
            if first % 1000 == 0:
                running.drain("c1")
        running.drain("c1")
        assert running.bodies() == lines_of(0, 20_000)


@pytest.mark.parametrize("how", ["stop", "rotated while away", "moved"])
def test_a_restart_continues_where_the_ring_says(tmp_path: Path, how: str) -> None:
    file = JsonFile(tmp_path / "c1", max_size=100_000, max_files=5)
    path = file.path
    file.write(numbered(0, 500))
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", path))
        running.drain("c1")
        assert running.bodies() == lines_of(0, 500)
    if how == "rotated while away":
        file.rotate()
        file.write(numbered(500, 700))
        file.rotate()
    file.write(numbered(700 if how.startswith("rot") else 500, 1000))
    if how == "moved":
        path = tmp_path / "elsewhere" / path.name
        path.parent.mkdir()
        path.write_bytes(file.path.read_bytes())
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", path))
        running.drain("c1")
        assert running.bodies() == lines_of(500, 1000)


def test_a_crash_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The ring is copied while lines are read, as a kill leaves it; each copy continues exactly."""
    file = JsonFile(tmp_path / "c1", max_size=60_000, max_files=30)
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        for round_number in range(8):
            for number in range(round_number * 300, round_number * 300 + 300):
                file.write(f"out {number}\n")
                file.write(f"Traceback {number}\n  indented {number}\n", "stderr")
            if round_number % 2:
                time.sleep(0.3)
            shutil.copytree(tmp_path / "ring", tmp_path / f"copy{round_number}")
    for round_number in range(8):
        with rig(tmp_path / f"copy{round_number}") as running:
            running.targets(target_of("c1", file.path))
            running.drain("c1")
            bodies = running.bodies()
        assert [body for body in bodies if body.startswith("out")] == [f"out {number}" for number in range(2400)]
        traces = [body for body in bodies if body.startswith("T")]
        assert traces == [f"Traceback {number}\n  indented {number}" for number in range(2400)]
        assert len(bodies) == 4800


def test_a_container_that_was_there_before_is_read_from_now_and_a_new_one_from_its_beginning(tmp_path: Path) -> None:
    old, new = JsonFile(tmp_path / "old"), JsonFile(tmp_path / "new")
    old.write("before\n")
    new.write("its first\n")
    began = START_NS + 1_000_000
    with rig(tmp_path / "ring") as running:
        running.targets(
            target_of("old", old.path, created_ns=began - 1),
            target_of("new", new.path, created_ns=began + 1),
            since_ns=began,
        )
        running.drain("old")
        old.write("after\n")
        assert sorted(running.wait(2)) == ["after", "its first"]
    # The same after a restart of the agent, and for what was made while it was away.
    third = JsonFile(tmp_path / "third")
    third.write("while away\n")
    old.write("old while away\n")
    with rig(tmp_path / "ring") as running:
        running.targets(
            target_of("old", old.path, created_ns=began - 1),
            target_of("third", third.path, created_ns=began + 2),
            since_ns=began + 10,
        )
        assert sorted(running.wait(2)) == ["old while away", "while away"]
        assert set(running.ring.marks()) == {"began", "old", "third"}


def test_what_a_removed_container_wrote_last_is_read_from_the_open_file(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "c1")
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        file.write("first\n")
        running.wait(1)
        file.write(numbered(0, 5000) + "no end of line")
        file.remove()
        running.targets()
        assert running.wait(5002) == ["first", *lines_of(0, 5000), "no end of line"]
        wait_until(lambda: "c1" not in running.ring.marks(), "the mark is removed")


@pytest.mark.parametrize("refilled", [False, True])
def test_a_file_that_is_emptied_is_read_from_its_new_beginning(tmp_path: Path, refilled: bool) -> None:
    file = JsonFile(tmp_path / "c1")
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        file.write(numbered(0, 10))
        running.drain("c1")
        os.truncate(file.path, 0)
        if not refilled:
            time.sleep(0.6)
        file.write(numbered(100, 300 if refilled else 102))
        running.drain("c1")
        assert running.bodies() == lines_of(0, 10) + lines_of(100, 300 if refilled else 102)


def test_files_that_vanished_unread_are_a_gap_that_is_said(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "c1", max_files=2)
    file.write("known\n")
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        assert running.wait(1) == ["known"]
    for number in range(3):
        file.rotate()
        file.write(f"line {number}\n")
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        running.drain("c1")
        bodies = running.bodies()
        assert bodies[1:] == ["line 1", "line 2"]
        assert "log lines may be missing" in bodies[0]


@pytest.mark.parametrize("seen", ["never", "before"])
def test_what_the_engine_has_compressed_is_read_once(tmp_path: Path, seen: str) -> None:
    file = JsonFile(tmp_path / "c1", max_files=4)
    target = target_of("c1", file.path)
    file.write(numbered(0, 10))
    if seen == "before":
        with rig(tmp_path / "ring") as running:
            running.targets(target)
            running.drain("c1")
    with rig(tmp_path / "ring") as running:
        for part in range(1, 4):
            file.rotate()
            file.compress()
            file.write(numbered(part * 10, part * 10 + 10))
        running.targets(target)
        running.drain("c1")
        assert running.bodies() == lines_of(0, 40)


@pytest.mark.parametrize("change", ["written", "rotated", "rewritten", "emptied", "moved away"])
def test_a_file_that_was_quiet_for_long_is_read_when_anything_happens_to_it(tmp_path: Path, change: str) -> None:
    file = JsonFile(tmp_path / "c1")
    tail = FileTail(str(file.path), target_of("c1", file.path, multiline="off").reader(), None, from_now=False)

    def bodies() -> list[str]:
        found = [record for records in iter(tail.read, None) for record in records]
        found += tail.flush(is_end=False)
        tail.mark()  # as the collector asks after each round
        return [record.body.string_value for record in ScopeLogs.FromString(b"".join(found)).log_records]

    file.write("one\n")
    long_ago = time.time() - 60
    os.utime(file.path, (long_ago, long_ago))
    assert bodies() == ["one"]
    assert bodies() == bodies() == []
    if change == "written":
        file.write("two\n")
    elif change == "rotated":
        file.rotate()
        file.write("two\n")
    elif change == "rewritten":
        file.path.write_bytes(file.path.read_bytes().replace(b"one", b"two"))
    elif change == "emptied":
        os.truncate(file.path, 0)
        assert bodies() == []
        file.write("two\n")
    else:
        file.path.rename(tmp_path / "gone")
        assert bodies() == []
        file.write("two\n")
    assert bodies() == ["two"]
    tail.close()


def test_files_that_were_compressed_between_two_looks_are_read(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "c1", max_files=4)
    reader = target_of("c1", file.path, multiline="off").reader()
    tail = FileTail(str(file.path), reader, None, from_now=False)
    file.write(numbered(0, 10))
    found = tail.read() or []
    for part in range(1, 4):
        file.write(numbered(part * 10, part * 10 + 5))
        file.rotate()
        file.compress()
        file.write(numbered(part * 10 + 5, part * 10 + 10))
    while (records := tail.read()) is not None:
        found += records
    found += tail.flush(is_end=True)
    tail.close()
    bodies = [record.body.string_value for record in ScopeLogs.FromString(b"".join(found)).log_records]
    assert bodies == lines_of(0, 40)
    assert not tail.has_gap


def test_a_damaged_compressed_file_is_a_gap_and_no_obstacle(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "c1")
    file.write("known\n")
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        assert running.wait(1) == ["known"]
    file.rotate()
    file.compress()
    file.write("next\n")
    packed = file.path.with_name(f"{file.path.name}.1.gz")
    packed.write_bytes(packed.read_bytes()[:-9])
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        running.drain("c1")
        note, line = running.bodies()[-2:]
        assert "log lines may be missing" in note
        assert line == "next"


def test_lines_in_parts_are_joined_for_each_stream_and_across_a_rotation_and_a_restart(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "c1", max_files=3)
    part = "x" * 16 * 1024
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        file.entry(part)
        file.entry("y" * 16 * 1024, "stderr")
        file.entry("short\n", "stderr")
        running.wait(1)
    file.rotate()
    with rig(tmp_path / "ring") as running:
        running.targets(target_of("c1", file.path))
        time.sleep(0.3)
        file.entry(part)
        file.entry("err\n", "stderr")
        file.entry("end\n")
        assert sorted(running.wait(2)) == ["err", part + part + "end"]


def test_damaged_lines_are_counted_and_the_others_read(tmp_path: Path) -> None:
    file = JsonFile(tmp_path / "c1")
    with rig(tmp_path / "ring") as running:
        file.write("a\n")
        file.raw(b"\0\0\0\0{broken\n")
        file.write("b\n")
        file.raw(b'{"log":7,"stream":"stdout","time":"x"}\n[]\n')
        file.write("c \ufffd\n")
        running.targets(target_of("c1", file.path))
        running.drain("c1")
        assert running.bodies() == ["a", "b", "c \ufffd"]
        assert (running.collector.view()["unreadable"], running.collector.view()["invalid_utf8"]) == (3, 1)


def test_a_service_that_floods_is_limited_alone_and_says_what_is_missing(tmp_path: Path) -> None:
    flood, quiet = JsonFile(tmp_path / "flood"), JsonFile(tmp_path / "quiet")
    flood.write(numbered(0, 5000))
    quiet.write(numbered(0, 50))
    with rig(tmp_path / "ring") as running:
        running.targets(
            target_of("flood", flood.path, service="flood", rate=[100.0, 0.0, 2.0]), target_of("quiet", quiet.path)
        )
        running.drain("flood")
        time.sleep(1.2)
        flood.write("after\n")
        running.drain("flood")
        by_container: dict[str, list[LogRecord]] = {"flood": [], "quiet": []}
        running.records()
        for request in running.requests:
            for resource in request.resource_logs:
                name = next(a.value.string_value for a in resource.resource.attributes if a.key == "container.id")
                by_container[name] += resource.scope_logs[0].log_records
        assert [record.body.string_value for record in by_container["quiet"]] == lines_of(0, 50)
        bodies = [record.body.string_value for record in by_container["flood"]]
        assert bodies[:200] == lines_of(0, 200)
        assert bodies[-1] == "after"
        gaps = [given for record in by_container["flood"] if "log.gap" in (given := attributes_of(record))]
        # One, unless reading takes so long that there is room for more lines meanwhile.
        assert gaps
        dropped = sum(gap["log.gap.lines"] for gap in gaps)
        assert len(bodies) - 1 - len(gaps) + dropped == 5000
        assert running.collector.view()["dropped_lines"] == dropped


def test_while_the_disk_is_full_lines_stay_in_their_file(tmp_path: Path) -> None:
    disk = FaultyDisk()
    file = JsonFile(tmp_path / "c1")
    with rig(tmp_path / "ring", disk=disk) as running:
        running.targets(target_of("c1", file.path, multiline="off"))
        file.write("first\n")
        running.wait(1)
        disk.failing["write"] = FULL
        noise = random.Random(1)
        text = "".join(f"{number} {noise.randbytes(3000).hex()}\n" for number in range(4000))
        file.write(text)
        wait_until(lambda: running.ring.memory_bytes > MEMORY_BYTES, "the memory is used", 30)
        time.sleep(0.5)
        assert running.ring.memory_bytes < 2 * MEMORY_BYTES
        disk.failing.clear()
        running.ring.maintain()
        wait_until(lambda: len(running.records()) >= 4001, "all lines", 30)
        assert running.bodies()[1:] == text.splitlines()
