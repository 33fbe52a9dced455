"""Epoch numbers and RFC 3339 text agree, to the nanosecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.utils.errors import AgentError
from syntra.utils.timestamps import format_ns, format_secs, parse_ns

MOMENT = 1_767_323_045  # 2026-01-02T03:04:05Z
NS = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", MOMENT * NS),
        ("2026-01-02T03:04:05.678Z", MOMENT * NS + 678_000_000),
        ("2026-01-02T03:04:05.678901234Z", MOMENT * NS + 678_901_234),
        ("2026-01-02T03:04:05.000000001Z", MOMENT * NS + 1),
        ("2026-01-02T03:04:05.5Z", MOMENT * NS + 500_000_000),
        ("2026-01-02T03:04:05.1234567899999Z", MOMENT * NS + 123_456_789),
        ("2026-01-02T05:34:05+02:30", MOMENT * NS),
        ("2026-01-01T22:04:05-05:00", MOMENT * NS),
        ("2026-01-02t03:04:05z", MOMENT * NS),
        ("2026-01-02 03:04:05Z", MOMENT * NS),
        ("2016-12-31T23:59:60Z", 1_483_228_800 * NS),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.9Z", -100_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * NS),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_text_is_read_exactly(text: str, expected: int | None) -> None:
    assert parse_ns(text) == expected


GOOD = "2026-01-02T03:04:05.678Z"


@pytest.mark.parametrize(
    "text",
    [
        *(GOOD[:index] for index in range(len(GOOD))),
        *(f"{GOOD[:index]}x{GOOD[index:]}" for index in range(len(GOOD) + 1)),
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T00:60:00Z",
        "2026-01-02T00:00:61Z",
        "2026-01-02T00:00:00+24:00",
        "2026-01-02T00:00:00+00:60",
        "2026-01-02T00:00:00.Z",
        "2026-01-02T00:00:00,5Z",
        "2026-01-02T00:00:00",
        "２０２６-01-02T00:00:00Z",
        GOOD + "\n",
        "-" + GOOD,
        "1767323045",
    ],
)
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(AgentError, match=r"cannot read timestamp .*; expected the form"):
        parse_ns(text)


def test_a_refusal_repeats_only_the_beginning_of_the_text() -> None:
    with pytest.raises(AgentError) as caught:
        parse_ns("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_seconds_are_written_to_the_millisecond() -> None:
    assert format_secs(MOMENT + 0.678) == "2026-01-02T03:04:05.678Z"
    assert format_secs(MOMENT) == "2026-01-02T03:04:05.000Z"
    assert format_secs(MOMENT + 0.9996) == "2026-01-02T03:04:06.000Z"
    assert format_secs(-0.1) == "1969-12-31T23:59:59.900Z"


def test_nanoseconds_are_written_at_a_fixed_width() -> None:
    assert format_ns(MOMENT * NS + 5) == "2026-01-02T03:04:05.000000005Z"


@pytest.mark.parametrize("secs", [1e12, -1e12, float("nan"), float("inf"), 1e300])
def test_a_number_that_is_no_date_is_refused(secs: float) -> None:
    with pytest.raises(AgentError, match="cannot format time"):
        format_secs(secs)


@given(st.integers(-62_135_596_799 * NS, 253_402_300_799 * NS))
def test_what_is_written_reads_back(epoch_ns: int) -> None:
    assert parse_ns(format_ns(epoch_ns)) == epoch_ns


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-23 * 60, 23 * 60))
def test_the_standard_library_agrees(moment: datetime, offset: int) -> None:
    aware = moment.replace(tzinfo=UTC)
    micros = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_ns(aware.isoformat()) == micros * 1000
    sign = "-" if offset < 0 else "+"
    local = (moment + timedelta(minutes=offset)).isoformat() + f"{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    assert parse_ns(local) == micros * 1000
