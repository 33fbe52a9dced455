"""Rates from two readings of a container's cgroup."""

from __future__ import annotations

import pytest

from syntra.model.ids import ContainerId
from syntra.runtime.docker.cgroup import CgroupFigures, CgroupReader, QuickFigures

ONE, TWO = ContainerId("1" * 64), ContainerId("2" * 64)
SECOND = 1_000_000_000


class Readings(CgroupReader):
    """CPU time by pid."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu: dict[int, int] = {}

    def read(self, pid: int) -> CgroupFigures | None:
        return CgroupFigures(cpu_usage_ns=self.cpu[pid], memory_bytes=1000 * pid) if pid in self.cpu else None


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def readings() -> Readings:
    return Readings()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def figures(readings: Readings, clock: Clock) -> QuickFigures:
    return QuickFigures(readings, clock=clock)


def test_a_rate_needs_two_readings(figures: QuickFigures, readings: Readings, clock: Clock) -> None:
    readings.cpu = {7: 5 * SECOND, 8: 0}
    assert figures.read(ONE, 7) == (0.0, 7000)
    clock.now += 4
    readings.cpu = {7: 7 * SECOND, 8: 0}
    assert figures.read(ONE, 7) == (50.0, 7000)
    assert figures.read(TWO, 8) == (0.0, 8000)
    clock.now += 1
    readings.cpu[7] += 3 * SECOND
    assert figures.read(ONE, 7) == (300.0, 7000)


def test_a_restarted_container_begins_anew(figures: QuickFigures, readings: Readings, clock: Clock) -> None:
    readings.cpu = {7: 100 * SECOND, 9: 101 * SECOND}
    figures.read(ONE, 7)
    clock.now += 1
    assert figures.read(ONE, 9) == (0.0, 9000)
    clock.now += 1
    readings.cpu[9] = 0
    assert figures.read(ONE, 9) == (0.0, 9000)


def test_no_cgroup_gives_nothing_and_no_time_gives_no_rate(
    figures: QuickFigures, readings: Readings, clock: Clock
) -> None:
    assert figures.read(ONE, 7) is None
    readings.cpu = {7: SECOND}
    figures.read(ONE, 7)
    readings.cpu = {7: 2 * SECOND}
    assert figures.read(ONE, 7) == (0.0, 7000)
    clock.now += 1
    readings.cpu = {7: 3 * SECOND}
    assert figures.read(ONE, 7) == (100.0, 7000)


def test_a_forgotten_container_is_new_again(figures: QuickFigures, readings: Readings, clock: Clock) -> None:
    readings.cpu = {7: SECOND}
    figures.read(ONE, 7)
    figures.forget(ONE)
    figures.forget(TWO)
    clock.now += 1
    readings.cpu = {7: 2 * SECOND}
    assert figures.read(ONE, 7) == (0.0, 7000)
