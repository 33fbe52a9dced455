"""One source cannot take what is everybody's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syntra.networking.dns.limits import RateLimit, Shares


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    limit: RateLimit[str] = RateLimit(rate=2.0, burst=3, capacity=10)
    assert [limit.allow("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [limit.allow("a", 0.5), limit.allow("a", 0.5)] == [True, False]
    assert [limit.allow("a", 100.0) for _ in range(4)] == [True, True, True, False]


def test_sources_do_not_share_buckets() -> None:
    limit: RateLimit[str] = RateLimit(rate=1.0, burst=1, capacity=10)
    assert limit.allow("a", 0.0)
    assert limit.allow("b", 0.0)
    assert not limit.allow("a", 0.0)


def test_the_table_is_bounded_and_keeps_who_asks_most_recently() -> None:
    limit: RateLimit[int] = RateLimit(rate=0.001, burst=1, capacity=3)
    for source in (1, 2, 3):
        assert limit.allow(source, 0.0)
    assert not limit.allow(1, 0.0)
    assert limit.allow(4, 0.0)
    assert len(limit) == 3
    assert not limit.allow(1, 0.0)
    assert limit.allow(2, 0.0), "the one seen longest ago was forgotten"


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    limit: RateLimit[str] = RateLimit(rate=10.0, burst=1, capacity=3)
    assert limit.allow("a", 5.0)
    assert not limit.allow("a", 1.0)
    assert not limit.allow("a", 5.0)
    assert limit.allow("a", 5.2)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 0.5)), max_size=200))
def test_never_more_than_burst_and_rate_allow(steps: list[tuple[int, float]]) -> None:
    limit: RateLimit[int] = RateLimit(rate=3.0, burst=4, capacity=10)
    now = 0.0
    allowed = dict.fromkeys(range(10), 0)
    for source, pause in steps:
        now += pause
        allowed[source] += limit.allow(source, now)
    assert all(count <= 4 + 3.0 * now + 1e-6 for count in allowed.values())


def test_shares_are_bounded_for_one_and_for_all() -> None:
    shares: Shares[str] = Shares(total=3, each=2)
    assert [shares.acquire("a"), shares.acquire("a"), shares.acquire("a")] == [True, True, False]
    assert [shares.acquire("b"), shares.acquire("c")] == [True, False]
    shares.release("a")
    assert shares.acquire("c")
    for source in ("a", "b", "c"):
        shares.release(source)
    assert shares.in_use == 0
