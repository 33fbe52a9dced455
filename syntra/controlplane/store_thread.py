"""The thread of the store: SQLite blocks, and the event loop must not."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from syntra.controlplane.errors import StoreError
from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store

P = ParamSpec("P")
T = TypeVar("T")


class StoreThread:
    """`await thread.run(Store.method, …)` from the loop. An async context manager that owns thread and database."""

    def __init__(self, path: Path, limits: Limits, deadline: float) -> None:
        self._path = path
        self._limits = limits
        self._deadline = deadline
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="controlplane-store")
        self._store: Store | None = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._deadline):
                loop = asyncio.get_running_loop()
                self._store = await loop.run_in_executor(self._executor, Store, self._path, self._limits)
        except BaseException:
            self._executor.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closed = False
        try:
            await self.run(Store.close)
            closed = True
        finally:
            # After the last job this only waits for the thread to end. It does not wait for a disk that hangs.
            self._executor.shutdown(wait=closed)

    async def run(self, method: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of the store. Raises StoreError and the errors of the function.

        A cancelled or late operation may still be carried out, as one transaction.
        """
        assert self._store is not None, "run() outside of `async with`"
        job = functools.partial(method, self._store, *args, **kwargs)
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.get_running_loop().run_in_executor(self._executor, job)
        except TimeoutError as exc:
            raise StoreError(f"cannot use the database: no answer in {self._deadline:g} s; check the disk") from exc
        except sqlite3.Error as exc:
            raise StoreError(f"cannot use the database: {exc}; check the disk and its free space") from exc
