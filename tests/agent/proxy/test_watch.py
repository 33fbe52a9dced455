"""The proxy is looked at now and then, and nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from syntra.agent.proxy.verbs import DEADLINE_SECS, EVERY_SECS, ProxyWatch
from syntra.networking.errors import ProxyUnreachable

pytestmark = pytest.mark.virtual_time


class Looks:
    """Answers one after another; an exception is raised, None never answers."""

    def __init__(self, *answers: tuple[str, ...] | Exception | None) -> None:
        self._answers = list(answers)
        self.times: list[float] = []

    async def __call__(self) -> tuple[str, ...]:
        self.times.append(asyncio.get_running_loop().time())
        answer = self._answers.pop(0)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer


@asynccontextmanager
async def watched(looks: Looks) -> AsyncIterator[ProxyWatch]:
    watch = ProxyWatch(looks)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        yield watch
        task.cancel()


def said(watch: ProxyWatch) -> list[str]:
    return list(watch.warnings)


async def test_the_last_answer_is_kept_and_asked_for_again_after_a_while() -> None:
    looks = Looks(("bad",), (), ("worse",))
    async with watched(looks) as watch:
        assert said(watch) == []
        await asyncio.sleep(1)
        assert said(watch) == ["bad"]
        await asyncio.sleep(EVERY_SECS)
        assert said(watch) == []
        await asyncio.sleep(EVERY_SECS)
        assert said(watch) == ["worse"]
    assert [later - earlier for earlier, later in zip(looks.times, looks.times[1:], strict=False)] == [EVERY_SECS] * 2


async def test_a_nudge_is_heard_at_once_and_once() -> None:
    looks = Looks((), ("new",))
    async with watched(looks) as watch:
        await asyncio.sleep(5)
        watch.nudge()
        watch.nudge()
        await asyncio.sleep(1)
        assert said(watch) == ["new"]
    assert len(looks.times) == 2


async def test_what_cannot_be_known_is_no_warning_and_no_end() -> None:
    looks = Looks(("bad",), ProxyUnreachable("away"), ("bad",), None, ("back",))
    async with watched(looks) as watch:
        await asyncio.sleep(EVERY_SECS + 1)
        assert said(watch) == []
        await asyncio.sleep(EVERY_SECS)
        assert said(watch) == ["bad"]
        await asyncio.sleep(EVERY_SECS + DEADLINE_SECS)
        assert said(watch) == []
        await asyncio.sleep(EVERY_SECS)
        assert said(watch) == ["back"]
