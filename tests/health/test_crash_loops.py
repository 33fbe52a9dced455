"""Two exits within minutes are a loop, one is not, and time ends it."""

from __future__ import annotations

from syntra.health.crash_loops import LOOP_SECS, CrashLoop, CrashLoops
from syntra.model.ids import ContainerId

ONE, TWO = ContainerId("c1"), ContainerId("c2")


def test_one_exit_is_no_loop_and_two_are() -> None:
    loops = CrashLoops()
    loops.exited(0, ONE, 1)
    loops.exited(1, TWO, 1)
    assert loops.of(2, ONE) is None
    loops.exited(60, ONE, 7)
    assert loops.of(60, ONE) == CrashLoop(exit_code=7)
    assert loops.of(60, TWO) is None


def test_a_loop_with_the_longest_back_off_stays_one_and_calm_ends_it() -> None:
    loops = CrashLoops()
    for at in range(0, 620, 61):
        loops.exited(at, ONE, 1)
        assert at == 0 or loops.of(at + 60, ONE) is not None
    assert loops.of(610 + LOOP_SECS, ONE) is None


def test_exits_far_apart_are_no_loop_and_what_is_gone_is_forgotten() -> None:
    loops = CrashLoops()
    loops.exited(0, ONE, 1)
    loops.exited(LOOP_SECS + 1, ONE, 1)
    assert loops.of(LOOP_SECS + 1, ONE) is None
    loops.exited(LOOP_SECS + 2, ONE, 1)
    loops.keep({TWO})
    assert loops.of(LOOP_SECS + 2, ONE) is None
