"""The target is met, shared fairly, and followed when the load changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.telemetry.sampling.rates import HARD_CAP, Load, Rates, share_out


def load(received: float, forced: float = 0.0, population: float | None = None) -> Load:
    """A load without sampling upstream, unless a population is given."""
    return Load(received=received, forced=forced, population=received - forced if population is None else population)


def kept(loads: dict[str, Load], probabilities: dict[str, float]) -> float:
    """Items per second that these probabilities keep."""
    return sum(one.forced + probabilities[key] * (one.received - one.forced) for key, one in loads.items())


def test_everything_is_kept_within_the_target() -> None:
    shares = share_out({"a": load(600), "b": load(400)}, 1000, 0.1)
    assert not shares.limited
    assert shares.probabilities == {"a": 1.0, "b": 1.0}


def test_what_a_small_service_leaves_goes_to_the_others() -> None:
    """The issue with alphabetical order elsewhere: the last key's rest is lost. Here the budget is met exactly."""
    loads = {"small": load(100), "middle": load(400), "z-large": load(4000)}
    shares = share_out(loads, 1000, 0.01)
    assert shares.probabilities["small"] == shares.probabilities["middle"] == 1.0
    assert shares.probabilities["z-large"] == pytest.approx(500 / 4000)


def test_errors_and_slow_traces_take_their_part_of_the_share_first() -> None:
    loads = {"a": load(2000, forced=300)}
    shares = share_out(loads, 1000, 0.01)
    assert shares.probabilities["a"] == pytest.approx(700 / 1700)


def test_the_floor_holds_although_the_target_is_exceeded() -> None:
    loads = {str(index): load(1000) for index in range(20)}
    shares = share_out(loads, 1000, 0.1)
    assert {*shares.probabilities.values()} == {0.1}
    assert shares.floor == 0.1


def test_at_the_hard_cap_the_floor_is_scaled_down() -> None:
    loads = {str(index): load(1000) for index in range(100)}
    shares = share_out(loads, 1000, 0.1)
    assert shares.floor == pytest.approx(0.04)
    assert kept(loads, dict(shares.probabilities)) == pytest.approx(HARD_CAP * 1000)


def test_items_sampled_upstream_are_not_thinned_twice() -> None:
    """1000/s that represent 10,000/s: to keep 500 of them, the probability relative to the origin is 5 %."""
    shares = share_out({"a": load(1000, population=10_000)}, 500, 0.01)
    assert shares.probabilities["a"] == pytest.approx(0.05)


@given(
    st.dictionaries(st.text(max_size=3), st.tuples(st.floats(0.1, 1e5), st.floats(0.0, 1.0)), min_size=1, max_size=40),
    st.floats(1.0, 1e4),
    st.floats(0.001, 0.5),
)
def test_what_is_kept_is_the_target_or_the_floors(
    given_loads: dict[str, tuple[float, float]], target: float, floor: float
) -> None:
    loads = {key: load(received, forced=received * share / 2) for key, (received, share) in given_loads.items()}
    shares = share_out(loads, target, floor)
    received = sum(one.received for one in loads.values())
    least = sum(one.forced + shares.floor * (one.received - one.forced) for one in loads.values())
    total = kept(loads, dict(shares.probabilities))
    assert total == pytest.approx(max(min(received, target), least if shares.limited else 0.0), rel=1e-3)
    assert all(shares.floor - 1e-12 <= one <= 1.0 for one in shares.probabilities.values())


def test_a_cold_start_with_a_flood_is_limited_at_once() -> None:
    """No interval passes with everything kept: twice the target for the time of one batch is enough to act."""
    rates = Rates(1000, 0.01, now=0.0)
    assert not rates.due(0.0, 10_000)
    assert rates.due(0.0, 10_001)
    shares = rates.update(0.0, {"a": load(10_001)})
    assert shares.limited
    assert shares.probabilities["a"] == pytest.approx(0.5, rel=0.001)


def test_batches_every_five_seconds_are_no_bursts() -> None:
    """The SDKs' default: a steady load that arrives in lumps."""
    rates = Rates(1000, 0.001, now=0.0)
    received = updates = 0
    for second in range(5, 606, 5):
        if rates.due(second, received):
            rates.update(second, {"a": load(received)})
            received = 0
            updates += 1
        received += 5 * 1500
    assert updates == 40
    assert rates.total == pytest.approx(1500)


def test_a_burst_is_limited_before_the_interval_is_over() -> None:
    rates = Rates(1000, 0.001, now=0.0)
    for second in range(15, 76, 15):
        assert rates.due(second, 15 * 2000)
        rates.update(second, {"a": load(15 * 2000)})
    assert rates.total == pytest.approx(2000)
    assert not rates.due(76.0, 24_000)
    assert rates.due(76.0, 60_000)
    shares = rates.update(76.0, {"a": load(60_000)})
    assert shares.probabilities["a"] == pytest.approx(0.1)


def test_a_whole_interval_replaces_the_guess_of_a_burst() -> None:
    rates = Rates(1000, 0.001, now=0.0)
    rates.update(0.5, {"a": load(22_000)})
    assert rates.total == pytest.approx(4000)
    rates.update(15.5, {"a": load(15 * 8000)})
    assert rates.total == pytest.approx(8000)


def test_the_average_follows_a_new_load_and_forgets_a_service_that_stopped() -> None:
    rates = Rates(1000, 0.001, now=0.0)
    rates.update(15.0, {"a": load(15 * 4000), "gone": load(15 * 100)})
    now = 15.0
    for _ in range(12):
        now += 15.0
        shares = rates.update(now, {"a": load(15 * 2000)})
    assert rates.total == pytest.approx(2000, rel=0.01)
    assert shares.probabilities["a"] == pytest.approx(0.5, rel=0.01)
    for _ in range(4):
        now += 15.0
        shares = rates.update(now, {"a": load(15 * 2000)})
    assert "gone" not in shares.probabilities


def test_a_long_pause_counts_as_the_intervals_that_it_was() -> None:
    rates = Rates(1000, 0.001, now=0.0)
    rates.update(15.0, {"a": load(15 * 50_000)})
    shares = rates.update(15.0 + 3600, {"a": load(10)})
    assert not shares.limited
