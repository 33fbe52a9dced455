"""Wakes the readers that wait for new entries."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Waiting:
    """Callbacks of readers that wait. `callbacks` is empty as long as none does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.callbacks: list[Callable[[], object]] = []

    @contextlib.contextmanager
    def callback(self, call: Callable[[], object]) -> Iterator[None]:
        """Have `call` called, in any thread, for every append until the context ends."""
        with self._lock:
            self.callbacks.append(call)
        try:
            yield
        finally:
            with self._lock:
                self.callbacks.remove(call)

    def wake(self) -> None:
        """Call them all."""
        with self._lock:
            for call in self.callbacks:
                # The loop of a reader may be closed.
                with contextlib.suppress(RuntimeError):
                    call()
