"""A companion lives exactly as long as the work beside it, whichever of the two ends first and how."""

from __future__ import annotations

import asyncio

import pytest

from syntra.utils.companion import alongside


class Broken(Exception):
    """The work's or the companion's own failure."""


class Companion:
    """Runs until cancelled, and tells how it ended; `error` is raised while it is being cancelled."""

    def __init__(self, error: Exception | None = None) -> None:
        self.started = asyncio.Event()
        self.ended = ""
        self._error = error

    async def run(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = "cancelled"
            if self._error is not None:
                raise self._error


async def working(companion: Companion, outcome: int | Exception = 7) -> int:
    """Work that ends so once its companion has started."""
    await companion.started.wait()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def test_the_result_of_the_work_is_returned_and_the_companion_has_ended() -> None:
    companion = Companion()
    assert await alongside(working(companion), companion.run()) == 7
    assert companion.ended == "cancelled"


async def test_work_that_needs_no_waiting_is_not_held_up() -> None:
    async def work() -> str:
        return "done"

    assert await alongside(work(), Companion().run()) == "done"


async def test_the_error_of_the_work_comes_out_as_it_is() -> None:
    companion = Companion()
    with pytest.raises(Broken, match="work"):
        await alongside(working(companion, Broken("work")), companion.run())
    assert companion.ended == "cancelled"


async def test_a_group_raised_by_the_work_comes_out_as_it_is() -> None:
    async def work() -> None:
        raise ExceptionGroup("of the work", [Broken("one"), Broken("two")])

    with pytest.raises(ExceptionGroup, match="of the work"):
        await alongside(work(), Companion().run())


async def test_a_companion_that_ends_early_does_not_end_the_work() -> None:
    ended = asyncio.Event()

    async def companion() -> None:
        ended.set()

    async def work() -> str:
        await ended.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    assert await alongside(work(), companion()) == "done"


async def test_a_companion_that_fails_cancels_the_work_and_its_error_comes_out() -> None:
    begun = asyncio.Event()
    cancelled = []

    async def companion() -> None:
        await begun.wait()
        raise Broken("companion")

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("work")
            raise

    with pytest.raises(Broken, match="companion"):
        await alongside(work(), companion())
    assert cancelled == ["work"]


async def test_when_both_fail_the_first_is_the_one_that_comes_out() -> None:
    companion = Companion(Broken("companion, on its way out"))
    with pytest.raises(Broken, match="work, first"):
        await alongside(working(companion, Broken("work, first")), companion.run())


async def test_a_companion_that_fails_on_its_way_out_is_not_passed_over() -> None:
    companion = Companion(Broken("companion"))
    with pytest.raises(Broken, match="companion"):
        await alongside(working(companion), companion.run())


async def test_cancelling_cancels_both_and_is_passed_on() -> None:
    companion = Companion()
    cancelled = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("work")
            raise

    async with asyncio.TaskGroup() as group:
        task = group.create_task(alongside(work(), companion.run()), name="both")
        await companion.started.wait()
        task.cancel()
    assert task.cancelled()
    assert (cancelled, companion.ended) == (["work"], "cancelled")


async def test_cancelling_before_either_has_begun_leaves_nothing_unawaited() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(alongside(work(), Companion().run()), name="both")
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_both_run_under_names_that_tell_what_they_are() -> None:
    names: set[str] = set()

    async def work() -> None:
        names.update(task.get_name() for task in asyncio.all_tasks())

    await alongside(work(), Companion().run())
    assert {work.__qualname__, f"companion of {work.__qualname__}"} <= names
