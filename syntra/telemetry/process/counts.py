"""What the pipeline has received, refused, sampled out and kept, for each signal. Use it from any thread."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping

from syntra.telemetry.signals import Signal

_RATE_SECS = 10.0


class SignalCount:
    """Items of one signal since the process began; `requests` are requests that were answered with success."""

    __slots__ = ("kept", "kept_bytes", "received", "received_bytes", "rejected", "requests", "sampled_out")

    def __init__(self) -> None:
        self.requests = 0
        self.received = 0
        self.received_bytes = 0
        self.rejected = 0
        self.sampled_out = 0
        self.kept = 0
        self.kept_bytes = 0


class Counts:
    """The counts of one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.signals: Mapping[Signal, SignalCount] = {signal: SignalCount() for signal in Signal}
        self._refused: Counter[tuple[str, str]] = Counter()
        self._marks: deque[tuple[float, dict[Signal, int]]] = deque()

    def received(self, signal: Signal, *, size: int, received: int, rejected: int, sampled_out: int) -> None:
        """Count a request that was accepted."""
        count = self.signals[signal]
        with self._lock:
            count.requests += 1
            count.received += received
            count.received_bytes += size
            count.rejected += rejected
            count.sampled_out += sampled_out

    def kept(self, signal: Signal, items: int, size: int) -> None:
        """Count what went into the ring."""
        count = self.signals[signal]
        with self._lock:
            count.kept += items
            count.kept_bytes += size

    def refuse(self, signal: Signal | None, reason: str) -> None:
        """Count a request that was not accepted."""
        with self._lock:
            self._refused[signal.value if signal else "", reason] += 1

    def refusals(self, signal: Signal) -> int:
        """Requests of one signal that were not accepted."""
        with self._lock:
            return sum(count for (name, _), count in self._refused.items() if name == signal.value)

    @property
    def refused(self) -> Mapping[tuple[str, str], int]:
        """Requests that were not accepted, by signal (empty when unknown) and reason."""
        with self._lock:
            return dict(self._refused)

    def mark(self) -> None:
        """Remember the counts of now, for `rate`; call it about once a second."""
        now = self._clock()
        self._marks.append((now, {signal: count.received for signal, count in self.signals.items()}))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_SECS:
            self._marks.popleft()

    def rate(self, signal: Signal) -> float:
        """Items received a second, over the last ten seconds."""
        if not self._marks:
            return 0.0
        since, then = self._marks[0]
        elapsed = self._clock() - since
        return max(0.0, (self.signals[signal].received - then[signal]) / elapsed) if elapsed > 0 else 0.0
