"""What the full buffer has dropped is announced."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from syntra.telemetry.buffer.stats import BufferStats
from syntra.telemetry.process.drops import RECENT_SECS, Drops
from syntra.telemetry.signals import Signal
from tests.telemetry.buffer.rings import record, ring


def stats(empty: BufferStats, **dropped: int) -> BufferStats:
    """The ring's figures with these counts of dropped items."""
    changed = {Signal(name): replace(empty.signals[Signal(name)], dropped_items=n) for name, n in dropped.items()}
    return replace(empty, signals={**empty.signals, **changed})


@pytest.fixture
def empty(tmp_path: Path) -> BufferStats:
    with ring(tmp_path) as opened:
        return opened.stats()


def test_without_a_loss_there_is_nothing_to_say(empty: BufferStats, caplog: pytest.LogCaptureFixture) -> None:
    drops = Drops()
    for second in range(5):
        drops.look(float(second), empty)
    assert not drops.is_recent(5.0)
    assert not caplog.records


def test_a_loss_is_said_for_five_minutes_and_logged_once_a_minute(
    empty: BufferStats, caplog: pytest.LogCaptureFixture
) -> None:
    drops = Drops()
    with caplog.at_level(logging.WARNING):
        drops.look(100.0, stats(empty, traces=5))
        assert drops.is_recent(100.0)
        assert "5 traces" in drops.sentence and "raise telemetry.buffer_max_mb" in drops.sentence
        drops.look(101.0, stats(empty, traces=7, logs=1))
        assert len(caplog.records) == 1
        drops.look(160.0, stats(empty, traces=7, logs=1))
        assert len(caplog.records) == 2
    # No item is announced twice, and none is forgotten.
    assert [vars(one)["items"] for one in caplog.records] == [{"traces": 5}, {"traces": 2, "logs": 1}]
    assert "2 traces" in drops.sentence and "1 logs" in drops.sentence
    assert drops.is_recent(101.0 + RECENT_SECS - 1)
    assert not drops.is_recent(101.0 + RECENT_SECS)


def test_a_real_ring_that_is_full_is_announced(tmp_path: Path) -> None:
    drops = Drops()
    with ring(tmp_path, max_bytes=1 << 20) as opened:
        opened.reader("own", [Signal.TRACES])
        for number in range(40):
            opened.append([record(f"r{number}", size=100_000)])
        drops.look(1.0, opened.stats())
    assert drops.is_recent(1.0)
