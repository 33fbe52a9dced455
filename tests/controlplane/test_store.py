"""What the store promises beyond what the API tests show: bounds, atomicity, old and new files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from syntra.controlplane.errors import Conflict, StoreError
from syntra.controlplane.records import CommandState, LogLine
from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store
from syntra.model.status import DeployState

SMALL = Limits(kept_commands=10, kept_deployments=10, kept_events=10, kept_alerts=10, kept_log_lines=10)
NOW = "2026-01-02T03:04:05.000Z"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "db", SMALL)
    store.add_token(b"hash", "srv_1", "one", NOW)
    yield store
    store.close()


def test_the_oldest_rows_go_beyond_the_limit(store: Store) -> None:
    for index in range(100):
        _command(store, f"req_{index}", deployment_id=f"dep_{index}")
        store.add_alert("srv_1", "{}", NOW)
        _event(store, f"dep_{index}")
    for table in ("commands", "deployments", "events", "alerts"):
        rows = [row[0] for row in store.database.execute(f"SELECT seq FROM {table} ORDER BY seq")]
        assert len(rows) <= 2 * 10, table
        assert len({later - earlier for earlier, later in pairwise(rows)}) == 1, f"{table} lost rows from its middle"
    assert store.command("req_99") is not None
    assert store.command("req_0") is None


def test_log_lines_of_one_message_beyond_the_limit_keep_the_newest(store: Store) -> None:
    _command(store, "req_1")
    lines = [LogLine(seq=0, timestamp="", stream="stdout", message=str(index)) for index in range(50)]
    assert store.add_log_lines("srv_1", "req_1", lines, False)
    kept = list(store.log_lines("req_1", 0))
    assert [line.message for line in kept] == [str(index) for index in range(40, 50)]
    assert list(store.log_lines("req_1", kept[-1].seq)) == []


def test_the_byte_budget_binds_before_the_row_limit(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", replace(SMALL, kept_bytes=1000))
    for _ in range(20):
        store.add_alert("srv_1", '"' + "x" * 300 + '"', NOW)
    assert len(list(store.alerts("srv_1", 0))) == 3
    store.close()


def test_trimming_never_takes_what_is_still_queued(store: Store) -> None:
    _command(store, "req_queued", deployment_id="dep_queued", queued_payload="{}")
    for index in range(100):
        _command(store, f"req_{index}")
    assert [deploy.request_id for deploy in store.take_queued("srv_1", 1000)] == ["req_queued"]


def test_taking_the_queue_is_bounded_in_bytes_but_always_gives_one(store: Store) -> None:
    for index in range(3):
        _command(store, f"req_{index}", deployment_id=f"dep_{index}", queued_payload="x" * 60)
    taken = [[deploy.request_id for deploy in store.take_queued("srv_1", limit)] for limit in (10, 120, 120)]
    assert taken == [["req_0"], ["req_1", "req_2"], []]


def test_a_command_that_was_not_written_goes_back_to_its_place_in_the_queue(store: Store) -> None:
    for index in range(2):
        _command(store, f"req_{index}", deployment_id=f"dep_{index}", queued_payload="{}")
    (first, _) = store.take_queued("srv_1", 100)
    store.queue_unsent(first.request_id, first.payload)
    assert store.take_queued("srv_1", 100) == [first]


def test_a_refused_deployment_leaves_no_command_behind(store: Store) -> None:
    store.add_token(b"other", "srv_2", "two", NOW)
    _command(store, "req_1", deployment_id="dep_1")
    with pytest.raises(Conflict):
        _command(store, "req_2", server_id="srv_2", deployment_id="dep_1")
    assert store.command("req_2") is None


def test_repeating_a_deploy_starts_its_status_anew_and_keeps_its_events(store: Store) -> None:
    _command(store, "req_1", deployment_id="dep_1")
    _event(store, "dep_1")
    _command(store, "req_2", deployment_id="dep_1")
    deployment = store.deployment("dep_1")
    assert deployment is not None
    assert (deployment.status, deployment.request_id) == (None, "req_2")
    assert len(list(store.events("dep_1", 0))) == 1


def test_what_was_stored_is_there_after_opening_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", SMALL)
    store.add_token(b"hash", "srv_1", "one", NOW)
    _command(store, "req_1")
    store.answer("srv_1", "req_1", '{"success": true}', NOW)
    store.close()
    store = Store(tmp_path / "db", SMALL)
    assert store.server_of_token(b"hash") == "srv_1"
    command = store.command("req_1")
    assert command is not None
    assert (command.state, command.response) == (CommandState.ANSWERED, {"success": True})
    store.close()


def test_what_was_committed_survives_a_process_that_never_closed(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", SMALL)
    store.add_token(b"hash", "srv_1", "one", NOW)
    for suffix in ("", "-wal"):
        (tmp_path / f"copy{suffix}").write_bytes((tmp_path / f"db{suffix}").read_bytes())
    store.close()
    copy = Store(tmp_path / "copy", SMALL)
    assert copy.server_of_token(b"hash") == "srv_1"
    copy.close()


def test_a_database_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="use the newer version"):
        Store(tmp_path / "db", SMALL)


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match="restore the file"):
        Store(tmp_path / "db", SMALL)


def test_a_database_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="check the data directory"):
        Store(tmp_path / "missing" / "db", SMALL)


def _command(store: Store, request_id: str, server_id: str = "srv_1", **given: str) -> None:
    store.add_command(
        request_id=request_id,
        server_id=server_id,
        type="deploy",
        deployment_id=given.get("deployment_id"),
        service_id=None,
        queued_payload=given.get("queued_payload"),
        now=NOW,
    )


def _event(store: Store, deployment_id: str) -> None:
    state = DeployState.RUNNING
    assert store.add_event(
        server_id="srv_1", deployment_id=deployment_id, service_id=None, status=state, event="{}", now=NOW
    )
