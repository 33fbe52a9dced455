"""Events and the ends of deployments in the journal: bounded, sealed, and read as they were written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from syntra.agent.journal import events
from syntra.agent.journal.database import FILE_NAME
from syntra.agent.journal.events import EndedDeployment, EventRows
from syntra.model.ids import DeploymentId, ServiceId
from tests.agent.journal.opened import Opened, opened

SERVICE = ServiceId("svc_a")


def ended(number: int, service: ServiceId = SERVICE) -> EndedDeployment:
    return EndedDeployment(
        service_id=service,
        deployment_id=DeploymentId(f"dep_{number}"),
        kind="deploy",
        image="web:1",
        asked_by="ada",
        began=1.5,
        ended=float(number),
        outcome="failed",
        reason="no such image",
    )


async def texts(rows: EventRows, after: int = 0, **wanted: str) -> list[str]:
    return [event.text for event in await rows.after(after, limit=100, **wanted)]  # type: ignore[arg-type]


async def test_events_outlive_the_agent_and_are_sealed(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        rows = EventRows(journal.database)
        rows.note("health", "replica 1 is unhealthy: tea-and-cake", service_id="svc_a", is_bad=True)
        rows.note("agent", "started")
        await rows.flush()
    assert b"tea-and-cake" not in (tmp_path / FILE_NAME).read_bytes()
    async with opened(tmp_path) as journal:
        rows = EventRows(journal.database)
        first, second = await rows.after(0, limit=10)
        assert (first.kind, first.service_id, first.is_bad) == ("health", "svc_a", True)
        assert await texts(rows, first.seq) == ["started"]
        assert await texts(rows, service_id="svc_a") == [first.text]
        assert [event.text for event in await rows.after(0, limit=1)] == ["started"]
        assert await rows.after(0, since=second.at + 1, limit=10) == []


async def test_events_and_deployments_are_bounded(journal: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_EVENTS", 3)
    monkeypatch.setattr(events, "MOST_DEPLOYMENTS", 2)
    rows = EventRows(journal.database)
    for number in range(5):
        rows.note("agent", str(number))
        await rows.flush()
    assert await texts(rows) == ["2", "3", "4"]
    for number in range(4):
        await journal.database.transact(lambda c, n=number: rows.write_ended(c, ended(n)))  # type: ignore[misc]
    await journal.database.transact(lambda c: rows.write_ended(c, ended(9, ServiceId("svc_b"))))
    assert await rows.ended(SERVICE) == [ended(3), ended(2)]
    await journal.database.transact(lambda c: events.forget_history(c, SERVICE))
    assert await rows.ended(SERVICE) == [] and len(await rows.ended(ServiceId("svc_b"))) == 1


async def test_too_many_noted_events_are_counted_and_a_damaged_one_is_left_out(journal: Opened) -> None:
    rows = EventRows(journal.database)
    for number in range(events.MOST_WAITING + 2):
        rows.note("agent", str(number))
    assert rows.dropped == 2
    await rows.flush()

    def damage(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE events SET event = x'00' WHERE seq = 1")

    await journal.database.transact(damage)
    assert (await rows.after(0, limit=1000))[0].text == "3"
