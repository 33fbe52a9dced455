"""Thresholds are what the specification says, and tracestates keep what others have written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.telemetry.sampling.threshold import (
    RANDOMNESS,
    adjusted_count,
    encode,
    parse_randomness,
    parse_threshold,
    probability_of,
    randomness_of,
    read,
    threshold_of,
    write,
)


@pytest.mark.parametrize(
    ("probability", "th"),
    [(1.0, "0"), (0.5, "8"), (0.25, "c"), (0.1, "e666"), (0.01, "fd70a"), (0.99, "028f"), (1 / 3, "aaab")],
)
def test_a_probability_has_its_th(probability: float, th: str) -> None:
    """Leading zeros stay: without them the th of 0.99 would say 84 %."""
    assert encode(threshold_of(probability)) == th


@given(st.floats(min_value=1e-12, max_value=1.0))
def test_a_th_is_within_a_hundredth_of_a_percent_of_its_probability(probability: float) -> None:
    threshold = threshold_of(probability)
    assert parse_threshold(encode(threshold)) == threshold
    assert len(encode(threshold)) <= 14
    assert probability_of(threshold) == pytest.approx(probability, rel=1e-4)
    assert adjusted_count(threshold) == pytest.approx(1 / probability, rel=1e-4)


@pytest.mark.parametrize("text", ["", "g", "A", "0123456789abcde", "-1", "0x1", " 8", "٣"])
def test_what_is_no_th_is_refused(text: str) -> None:
    assert parse_threshold(text) is None


def test_an_rv_has_fourteen_digits() -> None:
    assert parse_randomness("00000000000abc") == 0xABC
    assert parse_randomness("abc") is None
    assert parse_randomness("0000000000000G") is None


def test_randomness_is_the_last_seven_bytes_of_a_trace_id() -> None:
    assert randomness_of(bytes(8) + b"\xff" + bytes(6) + b"\x07") == 7


def test_th_and_rv_are_read_from_ot_only() -> None:
    said = read("th=1,vendor=th:1;rv:2, ot=p:8;th:8;rv:00000000000abc")
    assert (said.threshold, said.randomness) == (1 << 55, 0xABC)
    said = read("ot=th:xyz;rv:1")
    assert (said.threshold, said.randomness) == (None, None)


@pytest.mark.parametrize(
    ("state", "threshold", "written"),
    [
        ("", 1 << 55, "ot=th:8"),
        ("", None, ""),
        ("", 0, "ot=th:0"),
        ("ot=th:4;rv:0123456789abcd", 1 << 55, "ot=th:8;rv:0123456789abcd"),
        ("a=1,ot=x:y;th:4,b=2", 1 << 55, "ot=th:8;x:y,a=1,b=2"),
        ("a=1,ot=th:4,b=2", None, "a=1,b=2"),
        ("a=1 , b=2", 1 << 55, "ot=th:8,a=1,b=2"),
        ("ot=a:1,x=2,ot=b:2", 1 << 55, "ot=th:8;a:1,x=2"),
    ],
)
def test_a_tracestate_keeps_other_vendors_and_keys(state: str, threshold: int | None, written: str) -> None:
    assert write(state, threshold) == written


def test_the_limits_of_a_tracestate_are_kept() -> None:
    """32 members: the last goes. 256 characters in ot: the last keys go, rv stays."""
    full = ",".join(f"v{index}=1" for index in range(32))
    members = write(full, 1 << 55).split(",")
    assert members == ["ot=th:8", *(f"v{index}=1" for index in range(31))]
    long = "ot=" + ";".join([f"k{index}:{'x' * 40}" for index in range(6)] + ["rv:0123456789abcd"])
    value = write(long, RANDOMNESS - 1).removeprefix("ot=")
    assert len(value) <= 256
    assert value.startswith("th:ffffffffffffff;k0:")
    assert value.endswith("rv:0123456789abcd")


@given(st.text(alphabet="ot=;:,thrv01 abc", max_size=60), st.integers(0, RANDOMNESS - 1))
def test_what_is_written_is_read_again(state: str, threshold: int) -> None:
    assert read(write(state, threshold)).threshold == threshold
    assert read(write(state, None)).threshold is None
    assert read(write(state, threshold)).randomness == read(write(state, None)).randomness
