"""An intake with a budget that keeps requests in a list, and can be made to refuse, reject, fail or wait."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from syntra.telemetry.intake import BadData, Outcome, Overloaded, Request, Source
from syntra.telemetry.signals import Signal


class SmallIntake:
    """Implements `Intake` in memory."""

    def __init__(self, budget: int = 96 << 20, *, keeps: bool = True) -> None:
        self.keeps = keeps
        """Whether `received` has the requests; without it they are only counted."""
        self.count = 0
        self.budget = budget
        self.reserved = 0
        self.peak = 0
        self.received: list[tuple[Signal, Request, Source]] = []
        self.refusals: Counter[tuple[Signal | None, str]] = Counter()
        self.outcome = Outcome()
        self.error: Exception | None = None
        self.reserve_error: Exception | None = None
        self.gate: threading.Event | None = None
        self._lock = threading.Lock()

    def reserve(self, size: int) -> AbstractContextManager[None]:
        if self.reserve_error is not None:
            raise self.reserve_error
        with self._lock:
            if self.reserved + size > self.budget:
                raise Overloaded("no memory for the request", 1.5)
            self.reserved += size
            self.peak = max(self.peak, self.reserved)
        return self._reserved(size)

    @contextmanager
    def _reserved(self, size: int) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self.reserved -= size

    def receive(self, signal: Signal, request: Request, source: Source) -> Outcome:
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        with self._lock:
            self.count += 1
            if self.keeps:
                self.received.append((signal, request, source))
        return self.outcome

    async def receive_async(self, signal: Signal, request: bytes, source: Source) -> Outcome:
        while self.gate is not None and not self.gate.is_set():
            await asyncio.sleep(0.01)
        return self.receive(signal, request, source)

    def refused(self, signal: Signal | None, reason: str) -> None:
        self.refusals[signal, reason] += 1

    @property
    def bodies(self) -> list[Request]:
        """The requests that were received, in order."""
        return [request for _, request, _ in self.received]


def bad_data() -> BadData:
    """As a parser raises it."""
    return BadData("the trace id has 3 bytes", "resource_spans[0].trace_id")
