"""The child program: a real one, over a real socket pair."""

from __future__ import annotations

import asyncio
from pathlib import Path

from syntra.agent.telemetry.child import ChildProgram
from syntra.telemetry.link import Link

SOON_SECS = 20.0


async def test_the_child_ends_when_our_end_of_its_socket_closes() -> None:
    child = ChildProgram()
    ours = await child.spawn()
    assert child._process is not None
    pid = child._process.pid
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert b"telemetry-process" in words
    link = await Link.over(ours)
    link.close()
    async with asyncio.timeout(SOON_SECS):
        assert await child.ended() == 0
    # After its end there is nothing to close and no log to open again.
    child.reopen_log()
    await child.close()


async def test_close_ends_a_child_that_does_not_end_by_itself() -> None:
    child = ChildProgram()
    await child.close()
    child.reopen_log()
    ours = await child.spawn()
    with ours:
        await child.close()
        async with asyncio.timeout(SOON_SECS):
            assert await child.ended() == -9


async def test_each_child_replaces_the_one_before() -> None:
    child = ChildProgram()
    pids = set()
    for _ in range(2):
        ours = await child.spawn()
        assert child._process is not None
        pids.add(child._process.pid)
        ours.close()
        async with asyncio.timeout(SOON_SECS):
            await child.ended()
    assert len(pids) == 2
