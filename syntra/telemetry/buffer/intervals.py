"""Sets of sequence numbers as a few closed intervals. Pure."""

from __future__ import annotations

from collections.abc import Iterable

Interval = tuple[int, int]
"""First and last number, both included."""


class Intervals:
    """An immutable set of integers, kept as sorted intervals that neither overlap nor touch."""

    __slots__ = ("spans",)

    def __init__(self, spans: Iterable[Interval] = ()) -> None:
        merged: list[Interval] = []
        for first, last in sorted(spans):
            if first > last:
                continue
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        self.spans = tuple(merged)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and self.spans == other.spans

    def __hash__(self) -> int:
        return hash(self.spans)

    def __repr__(self) -> str:
        return f"Intervals({self.spans!r})"

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.spans)

    def add(self, first: int, last: int) -> Intervals:
        """With the numbers from `first` to `last`. An empty range, where `last` is less than `first`, adds nothing."""
        return Intervals((*self.spans, (first, last)))

    def remove(self, first: int, last: int) -> Intervals:
        """Without the numbers from `first` to `last`."""
        if first > last:
            return self
        kept: list[Interval] = []
        for begin, end in self.spans:
            kept.append((begin, min(end, first - 1)))
            kept.append((max(begin, last + 1), end))
        return Intervals(span for span in kept if span[0] <= span[1])

    def union(self, other: Intervals) -> Intervals:
        """The numbers in either."""
        return Intervals((*self.spans, *other.spans))

    def intersection(self, other: Intervals) -> Intervals:
        """The numbers in both."""
        return Intervals(
            (max(a, c), min(b, d)) for a, b in self.spans for c, d in other.spans if max(a, c) <= min(b, d)
        )

    def covers(self, first: int, last: int) -> bool:
        """Whether every number from `first` to `last` is in the set; true for an empty range."""
        return first > last or any(begin <= first and last <= end for begin, end in self.spans)

    def touches(self, first: int, last: int) -> bool:
        """Whether some number from `first` to `last` is in the set."""
        return any(begin <= last and first <= end for begin, end in self.spans if first <= last)

    def gaps(self, first: int, last: int) -> tuple[Interval, ...]:
        """The numbers from `first` to `last` that are not in the set, as intervals in ascending order."""
        found: list[Interval] = []
        for begin, end in self.spans:
            if begin > last:
                break
            if first < begin:
                found.append((first, begin - 1))
            first = max(first, end + 1)
        if first <= last:
            found.append((first, last))
        return tuple(found)
