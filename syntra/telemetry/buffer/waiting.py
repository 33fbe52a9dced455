"""Wakes the readers that wait for new entries."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Waiting:
    """Callbacks of readers that wait. An append with no reader waiting costs one comparison."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    @contextlib.contextmanager
    def callback(self, call: Callable[[], object]) -> Iterator[None]:
        """Have `call` called, in any thread, for every append until the context ends."""
        with self._lock:
            self._callbacks.append(call)
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.remove(call)

    def wake(self) -> None:
        """Call them all."""
        if self._callbacks:
            with self._lock:
                for call in self._callbacks:
                    # The loop of a reader may be closed.
                    with contextlib.suppress(RuntimeError):
                        call()
