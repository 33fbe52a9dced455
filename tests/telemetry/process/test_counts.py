"""What was received, refused, sampled out and kept."""

from __future__ import annotations

import threading

from syntra.telemetry.process.counts import Counts
from syntra.telemetry.signals import Signal
from tests.telemetry.process.rigs import Clock


def received(counts: Counts, items: int, signal: Signal = Signal.TRACES) -> None:
    counts.received(signal, size=10 * items, received=items, rejected=1, sampled_out=2)


def test_counts_are_by_signal() -> None:
    counts = Counts(Clock())
    received(counts, 5)
    received(counts, 7)
    counts.kept(Signal.TRACES, 3, 30)
    counts.kept(Signal.ERRORS, 1, 9)
    traces = counts.signals[Signal.TRACES]
    assert (traces.requests, traces.received, traces.received_bytes) == (2, 12, 120)
    assert (traces.rejected, traces.sampled_out, traces.kept, traces.kept_bytes) == (2, 4, 3, 30)
    assert counts.signals[Signal.ERRORS].kept == 1
    assert counts.signals[Signal.LOGS].received == 0


def test_refusals_are_by_signal_and_reason() -> None:
    counts = Counts(Clock())
    for reason in ("bad_data", "bad_data", "overloaded"):
        counts.refuse(Signal.LOGS, reason)
    counts.refuse(None, "too_large")
    assert counts.refused == {("logs", "bad_data"): 2, ("logs", "overloaded"): 1, ("", "too_large"): 1}
    assert counts.refusals(Signal.LOGS) == 3
    assert counts.refusals(Signal.TRACES) == 0


def test_the_refusals_that_someone_reads_do_not_change_meanwhile() -> None:
    counts = Counts(Clock())
    counts.refuse(Signal.LOGS, "bad_data")
    seen = counts.refused
    for _ in seen.items():
        counts.refuse(Signal.TRACES, "timeout")
    assert len(seen) == 1
    assert len(counts.refused) == 2


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    clock = Clock()
    counts = Counts(clock)
    assert counts.rate(Signal.TRACES) == 0.0
    counts.mark()
    assert counts.rate(Signal.TRACES) == 0.0  # no time has passed
    for _ in range(30):
        received(counts, 100)
        clock.now += 1
        counts.mark()
    assert counts.rate(Signal.TRACES) == 100.0
    assert counts.rate(Signal.LOGS) == 0.0
    for _ in range(5):
        clock.now += 1
        counts.mark()
    assert 40.0 < counts.rate(Signal.TRACES) < 60.0
    for _ in range(10):
        clock.now += 1
        counts.mark()
    assert counts.rate(Signal.TRACES) == 0.0


def test_threads_lose_no_count() -> None:
    counts = Counts(Clock())

    def work() -> None:
        for _ in range(3000):
            received(counts, 1)
            counts.kept(Signal.TRACES, 1, 1)
            counts.refuse(Signal.TRACES, "timeout")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    traces = counts.signals[Signal.TRACES]
    assert (traces.received, traces.kept, counts.refusals(Signal.TRACES)) == (18_000, 18_000, 18_000)
