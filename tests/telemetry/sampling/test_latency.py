"""Buckets hold what they say, percentiles are close to the truth, and what is slow is learned."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.telemetry.sampling.latency import BUCKETS, NEVER_SLOW, SlowLimit, bucket_of, quantile, upper_bound


@given(st.integers(1, 2**64 - 1))
def test_a_duration_is_in_its_bucket(nanoseconds: int) -> None:
    bucket = bucket_of(nanoseconds)
    assert 0 <= bucket < BUCKETS
    assert nanoseconds <= upper_bound(bucket) * (1 + 1e-9)
    assert nanoseconds > upper_bound(bucket - 1) * (1 - 1e-9)


@pytest.mark.parametrize("milliseconds", [1, 2, 4, 1024])
def test_a_bound_belongs_to_the_bucket_that_it_ends(milliseconds: int) -> None:
    bucket = bucket_of(milliseconds * 1_000_000)
    assert upper_bound(bucket) == pytest.approx(milliseconds * 1e6)
    assert bucket_of(milliseconds * 1_000_000 + 1) == bucket + 1


def test_no_duration_is_the_first_bucket() -> None:
    assert bucket_of(0) == bucket_of(-5) == 0
    assert quantile([0] * BUCKETS, 0.5) is None


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_within_a_bucket_of_the_truth(seed: int) -> None:
    rng = random.Random(seed)
    durations = sorted(int(rng.lognormvariate(17, 1)) for _ in range(20_000))
    counts = [0] * BUCKETS
    for duration in durations:
        counts[bucket_of(duration)] += 1
    for share in (0.5, 0.95, 0.99):
        found = quantile(counts, share)
        assert found == pytest.approx(durations[int(share * len(durations))], rel=0.1)


def counts_of(durations: list[int]) -> list[int]:
    """Durations as counts of buckets."""
    counts = [0] * BUCKETS
    for duration in durations:
        counts[bucket_of(duration)] += 1
    return counts


@pytest.mark.parametrize("seed", range(5))
def test_about_one_request_in_a_hundred_is_slow_and_never_more(seed: int) -> None:
    rng = random.Random(seed)
    durations = [int(rng.lognormvariate(17, 1)) for _ in range(50_000)]
    limit = SlowLimit()
    limit.update(counts_of(durations))
    share = sum(duration > limit.nanoseconds for duration in durations) / len(durations)
    assert 0.003 < share <= 0.01


def test_few_samples_decide_nothing() -> None:
    limit = SlowLimit()
    limit.update(counts_of([1_000_000] * 199))
    assert limit.nanoseconds == NEVER_SLOW
    limit.update(counts_of([1_000_000] * 100))
    assert limit.nanoseconds < NEVER_SLOW


def test_the_limit_follows_a_service_that_becomes_slower() -> None:
    limit = SlowLimit()
    for _ in range(20):
        limit.update(counts_of([10_000_000] * 1000))
    before = limit.nanoseconds
    for _ in range(100):
        limit.update(counts_of([80_000_000] * 1000))
    assert limit.nanoseconds == pytest.approx(8 * before, rel=0.2)
