"""Verdicts live for the window, within a bound."""

from __future__ import annotations

from syntra.telemetry.sampling.verdicts import Verdicts


def test_a_verdict_holds_for_half_the_window_at_least_and_the_window_at_most() -> None:
    verdicts = Verdicts(1000, 60.0)
    verdicts.age(100.0)
    verdicts.put(b"a", 7)
    for now in (110.0, 129.9, 130.0, 159.9):
        verdicts.age(now)
        assert verdicts.get(b"a") == 7
        assert b"a" in verdicts
    verdicts.age(160.0)
    assert verdicts.get(b"a") is None


def test_a_long_pause_ends_both_generations() -> None:
    verdicts = Verdicts(1000, 60.0)
    verdicts.age(0.0)
    verdicts.put(b"a", 7)
    verdicts.age(61.0)
    assert len(verdicts) == 0


def test_the_lower_threshold_wins() -> None:
    verdicts = Verdicts(1000, 60.0)
    verdicts.put(b"a", 7)
    verdicts.put(b"a", 0)
    verdicts.put(b"a", 9)
    assert verdicts.get(b"a") == 0


def test_the_bound_removes_the_oldest_and_counts_them() -> None:
    verdicts = Verdicts(100, 60.0)
    for number in range(1000):
        verdicts.put(number.to_bytes(4, "big"), 1)
        assert len(verdicts) <= 100
    assert verdicts.get((999).to_bytes(4, "big")) == 1
    assert verdicts.get((940).to_bytes(4, "big")) == 1
    assert verdicts.get((10).to_bytes(4, "big")) is None
    assert verdicts.evicted == 900
