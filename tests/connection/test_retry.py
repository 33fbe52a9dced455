"""Delays and verdicts. The random source is a recorder that returns the top, the bottom, or real draws."""

from __future__ import annotations

import random
import re

import pytest

from syntra.connection.retry import Backoff, DialFailure, FailureKind, RetryPolicy, Uniform, Verdict, classify

NETWORK = classify(DialFailure(kind=FailureKind.NETWORK, detail="connection refused"))
TOKEN = classify(DialFailure(kind=FailureKind.HTTP, code=401))
TLS = classify(DialFailure(kind=FailureKind.TLS, detail="its certificate is not accepted: expired"))


def top(low: float, high: float) -> float:
    assert low == 0.0, "full jitter begins at zero"
    return high


def delays(verdict: Verdict, count: int, *, uniform: Uniform = top, max_delay_secs: float = 60.0) -> list[float]:
    backoff = Backoff(uniform=uniform, max_delay_secs=max_delay_secs)
    return [backoff.delay(verdict, ready_for_secs=None) for _ in range(count)]


def test_network_failures_double_from_one_second_to_the_maximum() -> None:
    assert delays(NETWORK, 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert delays(NETWORK, 4, max_delay_secs=5) == [1, 2, 4, 5]


def test_every_delay_is_jittered_over_the_whole_window_even_at_the_cap() -> None:
    rng = random.Random(7)
    at_the_cap = delays(NETWORK, 2000, uniform=rng.uniform)[6:]
    assert max(at_the_cap) <= 60
    tenths = [sum(1 for delay in at_the_cap if low <= delay < low + 6) for low in range(0, 60, 6)]
    assert min(tenths) > len(at_the_cap) / 20


def test_a_thousand_failures_do_not_overflow() -> None:
    assert delays(NETWORK, 5000)[-1] == 60
    assert delays(TLS, 5000)[-1] == 600


def test_the_backoff_starts_over_only_after_a_minute_of_ready() -> None:
    backoff = Backoff(uniform=top)
    for _ in range(6):
        backoff.delay(NETWORK, ready_for_secs=None)
    assert backoff.delay(NETWORK, ready_for_secs=59.9) == 60
    assert backoff.delay(NETWORK, ready_for_secs=60.0) == 5
    assert backoff.delay(NETWORK, ready_for_secs=None) == 2


def test_the_first_wait_after_a_lost_connection_is_spread_over_five_seconds() -> None:
    assert Backoff(uniform=top).delay(NETWORK, ready_for_secs=3600.0) == 5
    assert Backoff(uniform=lambda low, high: low).delay(NETWORK, ready_for_secs=3600.0) == 0


def test_failures_are_counted_since_the_last_acceptance() -> None:
    backoff = Backoff(uniform=top)
    for _ in range(3):
        backoff.delay(NETWORK, ready_for_secs=None)
    assert backoff.failures == 3
    backoff.delay(NETWORK, ready_for_secs=1.0)
    assert backoff.failures == 1


def test_a_refused_token_slows_down_to_hourly() -> None:
    assert delays(TOKEN, 9) == [30, 60, 120, 240, 480, 600, 3600, 3600, 3600]


def test_refusals_stay_in_a_row_across_network_failures_and_end_with_an_acceptance() -> None:
    backoff = Backoff(uniform=top)
    for _ in range(5):
        backoff.delay(TOKEN, ready_for_secs=None)
        backoff.delay(NETWORK, ready_for_secs=None)
    assert backoff.delay(TOKEN, ready_for_secs=None) == 600
    assert backoff.delay(TOKEN, ready_for_secs=None) == 3600
    assert backoff.delay(TOKEN, ready_for_secs=1.0) == 30


def test_a_tls_failure_is_retried_slowly_but_never_hourly() -> None:
    assert delays(TLS, 8) == [30, 60, 120, 240, 480, 600, 600, 600]


@pytest.mark.parametrize(("asked", "waited"), [(120.0, 121.0), (0.0, 1.0), (-5.0, 1.0), (10.0**9, 3601.0)])
def test_retry_after_is_honoured_up_to_an_hour_with_the_jitter_on_top(asked: float, waited: float) -> None:
    verdict = classify(DialFailure(kind=FailureKind.HTTP, code=429, retry_after_secs=asked))
    assert delays(verdict, 1) == [waited]


@pytest.mark.parametrize(
    ("failure", "policy", "loud", "words"),
    [
        (DialFailure(kind=FailureKind.NETWORK, detail="refused"), RetryPolicy.BACKOFF, False, "cannot reach"),
        (DialFailure(kind=FailureKind.HTTP, code=500), RetryPolicy.BACKOFF, False, "HTTP 500"),
        (DialFailure(kind=FailureKind.HTTP, code=503), RetryPolicy.BACKOFF, False, "HTTP 503"),
        (DialFailure(kind=FailureKind.HTTP, code=429), RetryPolicy.BACKOFF, False, "HTTP 429"),
        (DialFailure(kind=FailureKind.HTTP, code=404), RetryPolicy.BACKOFF, True, "check the endpoint"),
        (DialFailure(kind=FailureKind.HTTP, code=301), RetryPolicy.BACKOFF, True, "check the endpoint"),
        (DialFailure(kind=FailureKind.HTTP, code=401), RetryPolicy.REFUSED, True, "the token was refused: HTTP 401"),
        (DialFailure(kind=FailureKind.HTTP, code=403), RetryPolicy.REFUSED, True, "the token was refused: HTTP 403"),
        (
            DialFailure(kind=FailureKind.CLOSE, code=4001, detail="bad token"),
            RetryPolicy.REFUSED,
            True,
            r"the token was refused: close code 4001 \(bad token\)",
        ),
        (DialFailure(kind=FailureKind.CLOSE, code=4003), RetryPolicy.REFUSED, True, "the hello was refused"),
        (DialFailure(kind=FailureKind.CLOSE, code=4002), RetryPolicy.SLOW, True, "the hello was refused"),
        (DialFailure(kind=FailureKind.CLOSE, code=4004), RetryPolicy.BACKOFF, False, "close code 4004"),
        (DialFailure(kind=FailureKind.CLOSE, code=1006), RetryPolicy.BACKOFF, False, "the connection broke"),
        (DialFailure(kind=FailureKind.CLOSE, code=1009), RetryPolicy.BACKOFF, True, "too large"),
        (DialFailure(kind=FailureKind.CLOSE), RetryPolicy.BACKOFF, False, "the connection broke"),
        (DialFailure(kind=FailureKind.TLS, detail="expired"), RetryPolicy.SLOW, True, "cannot establish TLS"),
        (DialFailure(kind=FailureKind.REFUSED_HELLO), RetryPolicy.SLOW, True, "no reason was given"),
        (DialFailure(kind=FailureKind.REFUSED_HELLO, detail="deleted"), RetryPolicy.SLOW, True, "agent: deleted"),
        (DialFailure(kind=FailureKind.PROXY, detail="HTTP 407"), RetryPolicy.BACKOFF, True, "HTTPS_PROXY"),
        (DialFailure(kind=FailureKind.LOCAL, detail="no hello"), RetryPolicy.BACKOFF, True, "cannot dial"),
        (DialFailure(kind=FailureKind.REDIAL, detail="files"), RetryPolicy.BACKOFF, False, "dialling again: files"),
    ],
)
def test_every_failure_has_its_verdict(failure: DialFailure, policy: RetryPolicy, loud: bool, words: str) -> None:
    verdict = classify(failure)
    assert verdict.policy is policy
    assert verdict.loud is loud
    assert re.search(words, verdict.sentence)


def test_every_kind_of_failure_is_classified() -> None:
    for kind in FailureKind:
        assert classify(DialFailure(kind=kind)).sentence


def test_text_of_the_peer_is_cut_and_cleaned_before_it_is_said() -> None:
    sentence = classify(DialFailure(kind=FailureKind.CLOSE, code=4000, detail="a\nb\x1b" + "x" * 10_000)).sentence
    assert "\n" not in sentence
    assert "\x1b" not in sentence
    assert len(sentence) < 500


def test_a_fleet_that_lost_its_control_plane_comes_back_spread_out() -> None:
    """2000 agents, ten minutes of outage: no second sees a tenth of them dial."""
    rng = random.Random(1)
    seconds: dict[int, int] = {}
    for _ in range(2000):
        backoff, now = Backoff(uniform=rng.uniform), 0.0
        now += backoff.delay(NETWORK, ready_for_secs=3600.0)
        while now < 600.0:
            now += backoff.delay(NETWORK, ready_for_secs=None)
        seconds[int(now)] = seconds.get(int(now), 0) + 1
    assert max(seconds.values()) < 200
