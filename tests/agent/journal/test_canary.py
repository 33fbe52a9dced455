"""Rows of canaries: how far one is, and decisions that are kept with their answer or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syntra.agent.journal.canary import Answered
from syntra.model.ids import RequestId
from tests.agent.journal.opened import Opened, opened
from tests.agent.journal.samples import WEB, accept, found, row
from tests.on_loop import OnLoop

OPERATION = RequestId("r1")
ROW = row("d1")
REASON = {"code": "ABORTED", "message": "the canary was aborted"}


def command(request_id: str = "p1", kind: str = "promote") -> Answered:
    return Answered(
        request_id=RequestId(request_id),
        kind=kind,
        service_id=WEB,
        origin="control-plane",
        response={"success": True},
        messages=["an answer"],
    )


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Opened]:
    """A journal with one operation that runs."""
    async with opened(tmp_path) as found:
        await accept(found, OPERATION, messages=[])
        await found.journal.begin(OPERATION, frozenset(), [])
        yield found


@pytest.fixture
def journal(tmp_path: Path) -> OnLoop[Opened]:
    return OnLoop(running(tmp_path))


async def stage(journal: Opened) -> tuple[int, str, str]:
    [row] = await journal.journal.unfinished()
    return row.stage, row.phase, row.reason


async def test_a_stage_only_grows(journal: Opened) -> None:
    assert await stage(journal) == (0, "running", "")
    for passed, expected in ((1, 1), (2, 2), (1, 2)):
        await journal.journal.canary.passed(OPERATION, passed)
        assert await stage(journal) == (expected, "running", "")


async def test_a_promotion_is_kept_with_its_answer(journal: Opened) -> None:
    assert await journal.journal.canary.promote(OPERATION, 3, command())
    assert await stage(journal) == (3, "running", "")
    kept = await found(journal, "p1")
    assert (kept.response, kept.report) == ({"success": True}, None)
    assert [item.text for item in await journal.outbox.pending(10)] == ["an answer"]
    assert await journal.journal.interrupted() == [], "it is done with its answer"


async def test_an_abort_is_kept_with_its_reason_and_no_commit_comes_after_it(journal: Opened) -> None:
    assert await journal.journal.canary.abort(OPERATION, REASON, command("a1", "abort"))
    assert await stage(journal) == (0, "unwinding", '{"code": "ABORTED", "message": "the canary was aborted"}')
    assert not await journal.journal.commit(OPERATION, ROW)
    assert await journal.journal.service(WEB) is None


@pytest.mark.parametrize("end", ["committed", "unwinding", "finished"])
async def test_what_comes_after_the_end_is_not_kept(journal: Opened, end: str) -> None:
    match end:
        case "committed":
            assert await journal.journal.commit(OPERATION, ROW)
        case "unwinding":
            await journal.journal.begin_rollback(OPERATION, {"code": "X"})
        case _:
            await journal.journal.finish(OPERATION, response=None, report={}, messages=[])
    assert not await journal.journal.canary.promote(OPERATION, 3, command())
    assert not await journal.journal.canary.abort(OPERATION, REASON, command("a1", "abort"))
    for request_id in ("p1", "a1"):
        assert await journal.journal.find(RequestId(request_id)) is None
    assert await journal.outbox.pending(10) == []
