"""The ring's own thread: syncs what was written, for all that wait at once, and retries a disk that failed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

INTERVAL_SECS = 1.0
DURABLE_SECS = 30.0
"""How long an append waits for the disk. Then it returns, and the ring says that the disk is stuck."""

Waiter = tuple[int, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Syncer:
    """Calls `maintain` about every second, and at once when an append waits for it."""

    def __init__(self, maintain: Callable[[], None]) -> None:
        self._maintain = maintain
        lock = threading.Lock()
        # Two conditions: an append that asks must not wake the appends that wait.
        self._asking = threading.Condition(lock)
        self._synced = threading.Condition(lock)
        self._asked = 0
        self._done = 0
        self._stopped = False
        self._waiters: list[Waiter] = []
        self._thread = threading.Thread(target=self._run, name="telemetry-sync", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after a last round."""
        with self._asking:
            self._stopped = True
            self._asking.notify()
        if self._thread.is_alive():
            self._thread.join(DURABLE_SECS)

    def wait(self) -> bool:
        """Wait until what was written before the call is synced; false if that takes too long or it is stopped."""
        with self._asking:
            if self._stopped:
                return False
            mine = self._ask()
            return self._synced.wait_for(lambda: self._done >= mine, DURABLE_SECS)

    async def wait_async(self) -> bool:
        """As `wait`, on an event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._asking:
            if self._stopped:
                return False
            self._waiters.append((self._ask(), loop, future))
        try:
            async with asyncio.timeout(DURABLE_SECS):
                await future
        except TimeoutError:
            return False
        return True

    def _ask(self) -> int:
        self._asked += 1
        self._asking.notify()
        return self._asked

    def _run(self) -> None:
        stopped = False
        while not stopped:
            with self._asking:
                self._asking.wait_for(lambda: self._asked > self._done or self._stopped, INTERVAL_SECS)
                asked, stopped = self._asked, self._stopped
            try:
                self._maintain()
            except Exception:  # the thread must survive: without it nothing is synced
                log.exception("telemetry buffer was not synced")
            with self._synced:
                self._done = asked
                self._synced.notify_all()
                ready = [waiter for waiter in self._waiters if waiter[0] <= asked]
                self._waiters = [waiter for waiter in self._waiters if waiter[0] > asked]
            for _, loop, future in ready:
                _resolve(loop, future)


def _resolve(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))
    except RuntimeError:
        # The loop is closed: its callers are gone.
        return
