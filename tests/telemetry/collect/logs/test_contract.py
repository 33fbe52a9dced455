"""What holds for a log in the engine's files as for one that the agent streams from the engine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from syntra.telemetry.collect.logs.targets import Target
from tests.engine import wait_until
from tests.telemetry.collect.logs.rigs import START_NS, JsonFile, Rig, StreamedLog, rig, target_of

Log = JsonFile | StreamedLog


@pytest.fixture(params=["file", "stream"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    yield JsonFile(tmp_path / "c1") if request.param == "file" else StreamedLog()


def running(log: Log, ring: Path) -> AbstractContextManager[Rig]:
    return rig(ring, streamed=log if isinstance(log, StreamedLog) else None)


def target(log: Log, **fields: object) -> Target:
    return target_of("c1", log.path, **fields)


def lines_of(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last)]


def _is_followed(log: StreamedLog, times: int) -> bool:
    return log.follows >= times


def numbered(first: int, last: int) -> str:
    return "".join(f"{line}\n" for line in lines_of(first, last))


def test_lines_come_in_order_and_a_trace_is_one_record(log: Log, tmp_path: Path) -> None:
    log.write("before\n")
    with running(log, tmp_path / "ring") as each:
        each.targets(target(log))
        assert each.wait(1) == ["before"]
        log.write(numbered(0, 3000) + "Traceback (most recent call last):\n  File x\nValueError: y\nafter\n")
        assert each.wait(3003) == [
            "before",
            *lines_of(0, 3000),
            "Traceback (most recent call last):\n  File x\nValueError: y",
            "after",
        ]
        assert len(each.errors) == 1


def test_a_restart_continues_with_the_next_line(log: Log, tmp_path: Path) -> None:
    for round_number in range(4):
        log.write(numbered(round_number * 100, round_number * 100 + 50))
        with running(log, tmp_path / "ring") as each:
            each.targets(target(log))
            assert each.wait(50) == lines_of(round_number * 100, round_number * 100 + 50)
            log.write(numbered(round_number * 100 + 50, round_number * 100 + 100))
            assert each.wait(100) == lines_of(round_number * 100, round_number * 100 + 100)
            time.sleep(0.1)
            assert len(each.records()) == 100


def test_a_kill_at_any_moment_loses_and_doubles_nothing(log: Log, tmp_path: Path) -> None:
    rounds = 5
    with running(log, tmp_path / "ring") as each:
        each.targets(target(log))
        for number in range(rounds):
            for line in range(number * 200, number * 200 + 200):
                log.write(f"out {line}\n")
                log.write(f"err {line}\n  indented {line}\n", "stderr")
            time.sleep(0.15)
            shutil.copytree(tmp_path / "ring", tmp_path / f"copy{number}")
    for number in range(rounds):
        with running(log, tmp_path / f"copy{number}") as each:
            each.targets(target(log))
            bodies = each.wait(rounds * 400)
            time.sleep(0.1)
            assert len(each.records()) == rounds * 400
        assert [body for body in bodies if body[0] == "o"] == [f"out {line}" for line in range(rounds * 200)]
        errs = [body for body in bodies if body[0] == "e"]
        assert errs == [f"err {line}\n  indented {line}" for line in range(rounds * 200)]


def test_what_was_there_before_is_left_out_for_a_container_that_is_older(log: Log, tmp_path: Path) -> None:
    log.write("before\n")
    began = START_NS + 1_000_000_000
    with running(log, tmp_path / "ring") as each:
        each.targets(target(log), since_ns=began)
        wait_until(lambda: "c1" in each.ring.marks(), "the place is kept")
        log.write("x\nafter\n")
        assert each.wait(2)[-1:] == ["after"]
        assert "before" not in each.bodies()


def test_the_last_lines_of_a_removed_container_are_kept(log: Log, tmp_path: Path) -> None:
    with running(log, tmp_path / "ring") as each:
        each.targets(target(log))
        log.write("first\n")
        each.wait(1)
        log.write(numbered(0, 2000))
        log.remove()
        each.targets()
        assert each.wait(2001) == ["first", *lines_of(0, 2000)]
        wait_until(lambda: "c1" not in each.ring.marks(), "the mark is removed")


def test_a_stream_that_breaks_is_read_again_without_a_line_twice(tmp_path: Path) -> None:
    log = StreamedLog()
    with running(log, tmp_path / "ring") as each:
        each.targets(target(log))
        for number in range(4):
            log.write(numbered(number * 100, number * 100 + 100))
            each.wait(number * 100 + 99)
            log.breaks()
            wait_until(partial(_is_followed, log, number + 2), "the stream is asked for again")
        each.wait(400)
        time.sleep(0.3)
        assert each.bodies() == lines_of(0, 400)
