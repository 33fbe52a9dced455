"""The store's thread: errors translated, deadlines kept, nothing left behind."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from syntra.controlplane.errors import StoreError
from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread


async def test_methods_run_on_one_thread_that_ends_with_it(tmp_path: Path) -> None:
    async with StoreThread(tmp_path / "db", Limits(), 5.0) as thread:
        names = {await thread.run(lambda store: threading.current_thread().name) for _ in range(3)}
        assert len(names) == 1
        assert names != {threading.current_thread().name}
        assert await thread.run(Store.server, "srv_1") is None
    assert not names & {running.name for running in threading.enumerate()}


async def test_a_failing_database_is_a_store_error(tmp_path: Path) -> None:
    def fail(store: Store) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async with StoreThread(tmp_path / "db", Limits(), 5.0) as thread:
        with pytest.raises(StoreError, match="disk I/O error"):
            await thread.run(fail)


async def test_a_stuck_database_is_a_store_error_within_the_deadline(tmp_path: Path) -> None:
    unstick = threading.Event()
    async with StoreThread(tmp_path / "db", Limits(), 1.0) as thread:
        with pytest.raises(StoreError, match=r"no answer in 1 s"):
            await thread.run(lambda store: unstick.wait())
        unstick.set()


async def test_a_database_that_does_not_open_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        async with StoreThread(tmp_path / "missing" / "db", Limits(), 5.0):
            pass
