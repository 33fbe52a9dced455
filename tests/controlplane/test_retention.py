"""Whose records go when a table is over its limit: the arithmetic, and the store that follows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.controlplane.records import LogLine
from syntra.controlplane.retention import fair_share
from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store
from syntra.model.status import DeployState
from tests.controlplane.harness import running

SMALL = Limits(kept_commands=30, kept_deployments=30, kept_events=30, kept_alerts=30, kept_log_lines=30)
NOW = "2026-01-02T03:04:05.000Z"


@pytest.mark.parametrize(
    ("used", "limit", "share"),
    [
        ([], 10, None),
        ([10], 10, None),
        ([11], 10, 10),
        ([1, 100], 10, 9),
        ([5, 5, 100], 30, 20),
        ([100, 100, 100], 30, 10),
        ([9, 100, 100], 30, 10),
        ([1, 1, 1], 2, 0),
    ],
)
def test_the_share_of_each_server(used: list[int], limit: int, share: int | None) -> None:
    assert fair_share(used, limit) == share


@given(st.lists(st.integers(0, 1000), max_size=20), st.integers(0, 5000))
def test_what_is_kept_fits_and_nothing_is_deleted_without_need(used: list[int], limit: int) -> None:
    share = fair_share(used, limit)
    if share is None:
        assert sum(used) <= limit
    else:
        assert sum(min(amount, share) for amount in used) <= limit < sum(used)
        # With one more each, it would be too much.
        assert sum(min(amount, share + 1) for amount in used) > limit


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "db", SMALL)
    for server_id in ("srv_busy", "srv_quiet"):
        store.add_token(server_id.encode(), server_id, server_id, NOW)
    yield store
    store.close()


def test_a_server_that_reports_much_deletes_nothing_of_another(store: Store) -> None:
    _report(store, "srv_quiet", 10)
    _report(store, "srv_busy", 150)
    for table in ("commands", "deployments", "events", "alerts", "log_lines"):
        kept = _kept(store, table)
        assert kept["srv_quiet"] == 10, table
        # The rest of the limit, and what came since the last trimming.
        assert 20 <= kept["srv_busy"] <= 50, table
        newest = store.database.execute(f"SELECT max(seq), count(*) FROM {table} WHERE server_id = 'srv_busy'")
        last, count = newest.fetchone()
        oldest = f"SELECT count(*) FROM {table} WHERE server_id = 'srv_busy' AND seq > ?"
        assert store.database.execute(oldest, (last - count,)).fetchone()[0] == count, f"{table} has gaps"


def test_servers_that_report_equally_much_keep_equally_much(store: Store) -> None:
    for _ in range(100):
        for server_id in ("srv_busy", "srv_quiet"):
            store.add_alert(server_id, "{}", NOW)
    assert _kept(store, "alerts")["srv_quiet"] == _kept(store, "alerts")["srv_busy"]


def test_bytes_are_shared_as_rows_are(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", replace(SMALL, kept_bytes=10_000))
    for _ in range(4):
        store.add_alert("srv_quiet", '"' + "x" * 998 + '"', NOW)
    for _ in range(10):
        store.add_alert("srv_busy", '"' + "x" * 2998 + '"', NOW)
    assert _kept(store, "alerts") == {"srv_quiet": 4, "srv_busy": 2}
    store.close()


def test_large_records_are_trimmed_long_before_many_rows_came(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", Limits(kept_bytes=1_000_000))
    most = 0
    for _ in range(40):
        store.add_alert("srv_busy", '"' + "x" * 99_998 + '"', NOW)
        most = max(most, store.database.execute("SELECT sum(size) FROM alerts").fetchone()[0])
    assert most == 1_000_000
    store.close()


async def test_an_agent_that_sends_many_alerts_deletes_none_of_another(tmp_path: Path) -> None:
    async with (
        running(tmp_path, limits=replace(SMALL, kept_alerts=20)) as plane,
        plane.agent("srv_quiet") as quiet,
        plane.agent("srv_busy") as busy,
    ):
        for number in range(5):
            await quiet.send("alert", {"number": number})
        await quiet.settled()
        for number in range(200):
            await busy.send("alert", {"number": number})
        await busy.settled()
        kept = (await plane.call(plane.client.alerts, "srv_quiet"))["alerts"]
        assert [alert["number"] for alert in kept] == [0, 1, 2, 3, 4]
        kept = (await plane.call(plane.client.alerts, "srv_busy"))["alerts"]
        assert kept[-1]["number"] == 199
        assert 15 <= len(kept) < 40


def _report(store: Store, server_id: str, count: int) -> None:
    for index in range(count):
        request_id, deployment_id = f"req_{server_id}_{index}", f"dep_{server_id}_{index}"
        store.add_command(
            request_id=request_id,
            server_id=server_id,
            type="deploy",
            deployment_id=None,
            service_id=None,
            queued_payload=None,
            now=NOW,
        )
        state = DeployState.RUNNING
        store.add_event(
            server_id=server_id, deployment_id=deployment_id, service_id=None, status=state, event="{}", now=NOW
        )
        store.add_alert(server_id, "{}", NOW)
        line = LogLine(seq=0, timestamp="", stream="stdout", message="x")
        assert store.add_log_lines(server_id, request_id, [line], False)


def _kept(store: Store, table: str) -> Counter[str]:
    rows = store.database.execute(f"SELECT server_id, count(*) FROM {table} GROUP BY server_id")
    return Counter(dict(rows.fetchall()))
