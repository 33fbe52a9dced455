"""The signal of changes: no change is missed, and fixed intervals end at the same moments."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from syntra.agent.changes import Changes, Follower, until_next

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(
    ("now", "left"),
    [(0.0, 30.0), (0.5, 29.5), (29.0, 1.0), (29.0001, 30.9999), (29.9999, 30.0001), (30.0, 30.0), (1234.0, 26.0)],
)
def test_the_next_multiple_is_at_least_a_second_away(now: float, left: float) -> None:
    assert until_next(30.0, now) == pytest.approx(left)


async def passes(follower: Follower, times: list[float], pause: float) -> None:
    """A loop whose passes take `pause` seconds."""
    while True:
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(pause)
        await follower.recheck(30.0)


async def test_loops_that_began_apart_run_at_the_same_moments() -> None:
    changes = Changes()
    found: list[list[float]] = [[], [], []]
    async with asyncio.TaskGroup() as tasks:
        loops = []
        for number, times in enumerate(found):
            loops.append(tasks.create_task(passes(changes.follow(), times, 0.3 * number)))
            await asyncio.sleep(4.7)
        await asyncio.sleep(200)
        for loop in loops:
            loop.cancel()
    for times in found:
        later = times[1:]
        assert len(later) >= 6
        assert all(time % 30.0 == pytest.approx(0.0, abs=1e-3) for time in later)
        assert [round(after - before) for before, after in itertools.pairwise(later)] == [30] * (len(later) - 1)


async def test_a_change_ends_a_recheck_at_once_and_one_during_a_pass_the_next() -> None:
    changes = Changes()
    follower = changes.follow()
    loop = asyncio.get_running_loop()
    loop.call_later(2.0, changes.announce)
    began = loop.time()
    await follower.recheck(30.0)
    assert loop.time() - began == pytest.approx(2.0, abs=1e-3)
    changes.announce()
    await follower.recheck(30.0)
    assert loop.time() - began == pytest.approx(2.0, abs=1e-3)
