"""The journal keeps a bounded number of bytes of what was said, and its file shrinks when they are forgotten."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.journal import budget
from syntra.agent.journal.database import FILE_NAME
from syntra.agent.journal.journal import Journal
from syntra.model.ids import RequestId, ServiceId
from tests.agent.journal.opened import Opened, opened

LARGE = "x" * 1_000_000
MIB = 1024 * 1024


async def finished(journal: Journal, request_id: str, said: str, **more: Any) -> None:
    await journal.accept(
        RequestId(request_id),
        kind="exec",
        service_id=ServiceId("web"),
        origin="control-plane",
        payload={},
        response=None,
        deployment=None,
        is_operation=False,
        messages=[],
    )
    response = {"request_id": request_id, "success": True, "data": {"said": said}}
    await journal.finish(RequestId(request_id), response=response, report=None, **{"messages": [], **more})


def on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob(f"{FILE_NAME}*"))


async def test_150_large_answers_cost_the_oldest_and_never_an_id(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for number in range(150):
            await finished(journal.journal, f"r{number}", LARGE)
            assert on_disk(tmp_path) < budget.ANSWERS_BYTES + 16 * MIB
        found = [await journal.journal.find(RequestId(f"r{number}")) for number in range(150)]
        assert all(remembered is not None for remembered in found), "every id still counts"
        kept = [number for number, one in enumerate(found) if one is not None and one.response is not None]
        assert kept == list(range(kept[0], 150)), "the newest answers stay"
        assert budget.ANSWERS_BYTES - 2 * MIB < len(kept) * len(LARGE) <= budget.ANSWERS_BYTES
        forgotten = [number for number, one in enumerate(found) if one is not None and one.is_forgotten]
        assert forgotten == list(range(kept[0]))


async def test_what_the_control_plane_does_not_read_is_bounded_in_bytes_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "OUTBOX_BYTES", 8 * MIB)
    async with opened(tmp_path) as journal:
        for number in range(20):
            await journal.outbox.add(f"{number:02}{LARGE}")
        items = await journal.outbox.pending(100)
        numbers = [int(item.text[:2]) for item in items]
        assert numbers == list(range(20 - len(numbers), 20))
        assert 7 * MIB < len(numbers) * len(LARGE) <= 8 * MIB + budget.SLACK_BYTES
        assert journal.outbox.dropped == 20 - len(numbers)
        for item in items:
            await journal.outbox.taken(item.seq)
        assert on_disk(tmp_path) < 3 * MIB, "the file shrinks once they are read"
    monkeypatch.setattr(budget, "OUTBOX_BYTES", 1000)
    async with opened(tmp_path) as journal:
        await journal.outbox.add("small")
        assert [item.text for item in await journal.outbox.pending(10)] == ["small"]


async def test_a_large_journal_of_an_earlier_agent_opens_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(budget, "ANSWERS_BYTES", 10**12)
        async with opened(tmp_path) as journal:
            for number in range(60):
                await finished(journal.journal, f"r{number}", LARGE)
    # As before there was a budget: pages are never given back.
    connection = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum=NONE")
    connection.execute("VACUUM")
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    connection.close()
    assert on_disk(tmp_path) > 55 * MIB
    async with opened(tmp_path) as journal:
        assert on_disk(tmp_path) < budget.ANSWERS_BYTES + 4 * MIB
        assert await _answer(journal, "r59") == LARGE
        first = await journal.journal.find(RequestId("r0"))
        assert first is not None and first.is_forgotten
        assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    size = on_disk(tmp_path)
    async with opened(tmp_path) as journal:
        assert await _answer(journal, "r59") == LARGE
    assert on_disk(tmp_path) == size, "it is rewritten once"


async def _answer(journal: Opened, request_id: str) -> str:
    remembered = await journal.journal.find(RequestId(request_id))
    assert remembered is not None and remembered.response is not None
    data = remembered.response["data"]
    assert isinstance(data, dict)
    return str(data["said"])
