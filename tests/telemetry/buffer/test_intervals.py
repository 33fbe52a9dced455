"""Sets of numbers as intervals, against Python's sets."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.telemetry.buffer.intervals import Interval, Intervals

NUMBERS = st.integers(0, 30)
SPANS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8)


def numbers(spans: list[Interval] | tuple[Interval, ...]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


def canonical(intervals: Intervals) -> bool:
    pairs = zip(intervals.spans, intervals.spans[1:], strict=False)
    return all(a <= b for a, b in intervals.spans) and all(one[1] + 1 < other[0] for one, other in pairs)


@settings(deadline=None)
@given(SPANS, SPANS, NUMBERS, NUMBERS)
def test_every_operation_is_that_of_a_set(one: list[Interval], other: list[Interval], first: int, last: int) -> None:
    left, right = Intervals(one), Intervals(other)
    span = numbers([(first, last)])
    results = {
        left: numbers(one),
        left.add(first, last): numbers(one) | span,
        left.remove(first, last): numbers(one) - span,
        left.union(right): numbers(one) | numbers(other),
        left.intersection(right): numbers(one) & numbers(other),
        Intervals(left.gaps(first, last)): span - numbers(one),
    }
    for intervals, expected in results.items():
        assert numbers(intervals.spans) == expected
        assert canonical(intervals)


@settings(deadline=None)
@given(SPANS, NUMBERS, NUMBERS)
def test_questions_are_answered_as_for_a_set(spans: list[Interval], first: int, last: int) -> None:
    intervals, span = Intervals(spans), numbers([(first, last)])
    assert (first in intervals) == (first in numbers(spans))
    assert intervals.covers(first, last) == (span <= numbers(spans))
    assert bool(intervals) == bool(numbers(spans))
    assert list(intervals.gaps(first, last)) == sorted(intervals.gaps(first, last))


@settings(deadline=None)
@given(SPANS, SPANS)
def test_sets_with_the_same_numbers_are_equal(one: list[Interval], other: list[Interval]) -> None:
    same = numbers(one) == numbers(other)
    assert (Intervals(one) == Intervals(other)) == same
    assert not same or hash(Intervals(one)) == hash(Intervals(other))
