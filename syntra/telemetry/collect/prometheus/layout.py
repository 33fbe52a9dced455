"""A scrape as an OTLP metrics request in which only times and values are left open. Pure.

The metrics of a page are encoded once. As long as the target's series stay the same, each scrape is `Layout.fill`: the
values are packed and put between the bytes that do not change, all of it in C.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from operator import itemgetter, sub
from typing import Any

from syntra.telemetry.collect.prometheus.metrics import Page
from syntra.telemetry.collect.prometheus.otlp import POINT_DATA, Slots, close_metric, open_scope, point
from syntra.telemetry.collect.prometheus.pieces import Gap, Pieces, field
from syntra.telemetry.collect.prometheus.stale import SeriesSet

_INTEGER_MAX = 2**63 - 1
_EIGHT = 8


class Layout:
    """An encoded request with gaps. `points` is how many data points it has, `series` what they are."""

    def __init__(self, page: Page, resource: bytes) -> None:
        """`resource` is an encoded Resource. `values` of `fill` are those of the samples of the page, by number."""
        slots = Slots()
        pieces, self.series, self.points = _request(page, resource, slots)
        self._doubles = picker(slots.doubles)
        self._pack_doubles = struct.Struct(f"<{len(slots.doubles)}d").pack
        self._cut_doubles = struct.Struct(f"{_EIGHT}s" * len(slots.doubles)).unpack
        flat = [index for run in slots.runs for index in run]
        starts = list(accumulate((len(run) for run in slots.runs), initial=0))
        self._flat = flat
        self._integers = picker(flat)
        # The sample before each in its run; the first of a run has nothing before it.
        before = list(range(-1, len(flat) - 1))
        for start in starts[:-1]:
            before[start] = len(flat)
        self._before = picker(before)
        self._runs = list(pairwise(starts))
        self._pack_integers = struct.Struct(f"<{len(flat)}Q").pack
        self._cuts = [(start * _EIGHT, end * _EIGHT) for start, end in self._runs]
        self._constants, self._order = _ordered(pieces, len(slots.doubles), len(slots.runs))

    def fill(self, values: Sequence[float], time_ns: int) -> bytes:
        """The request with these values; `time_ns` is the time of every sample that has none of its own."""
        doubles = self._cut_doubles(self._pack_doubles(*self._doubles(values)))
        counts = self._counts(values)
        packed = self._pack_integers(*counts)
        integers = [packed[start:end] for start, end in self._cuts]
        pool = (struct.pack("<Q", time_ns), *doubles, *integers, *self._constants)
        return b"".join(self._order(pool))

    def _counts(self, values: Sequence[float]) -> list[int]:
        """What is between each bound and the one before: the page's buckets are cumulative."""
        picked = self._integers(values)
        try:
            whole = list(map(int, picked))
            counts = list(map(sub, whole, self._before([*whole, 0])))
        except (ValueError, OverflowError):
            return self._repaired(picked)
        # In range for 64 bits, and no bucket has less than the one below it.
        return counts if not counts or (min(counts) >= 0 and max(whole) <= _INTEGER_MAX) else self._repaired(picked)

    def _repaired(self, picked: Sequence[float]) -> list[int]:
        """Counts of a page that was read while they changed, or that are no numbers: they never fall within a run."""
        runs = [list(accumulate(map(_whole, picked[start:end]), max)) for start, end in self._runs]
        # The count of a histogram is the sum of its buckets, which may have become more.
        totals: dict[int, int] = {}
        for rising, (_, end) in zip(runs, self._runs, strict=True):
            last = self._flat[end - 1]
            totals[last] = max(rising[-1], totals.get(last, 0))
        counts: list[int] = []
        for rising, (_, end) in zip(runs, self._runs, strict=True):
            rising[-1] = totals[self._flat[end - 1]]
            counts += map(sub, rising, [0, *rising])
        return counts


def _whole(value: float) -> int:
    # False for NaN, too.
    return int(min(value, float(_INTEGER_MAX - 1023))) if value > 0 else 0


def _request(page: Page, resource: bytes, slots: Slots) -> tuple[Pieces, SeriesSet, int]:
    """The request's pieces, its series, and how many points it has."""
    series = SeriesSet()
    points = 0
    holder = Pieces()
    holder.put(field(0x0A, resource))
    for scope, metrics in page.scopes.items():
        part = open_scope(scope)
        for metric in metrics.values():
            data = Pieces()
            named: list[bytes] = []
            for attributes, one in metric.points.items():
                made, encoded = point(metric, attributes, one, slots)
                data.message(POINT_DATA, made)
                points += 1
                if one.time_ns is None:
                    # Prometheus marks no series as stale that has times of its own.
                    named.append(encoded)
            series.add(scope, metric, named)
            close_metric(part, metric, data)
        holder.message(0x12, part)
    request = Pieces()
    if points:
        request.message(0x0A, holder)
    return request, series, points


def _ordered(
    pieces: Pieces, doubles: int, runs: int
) -> tuple[tuple[bytes, ...], Callable[[Sequence[bytes]], Sequence[bytes]]]:
    """The constants, and what puts a pool of time, doubles, integers and constants into the order of the request."""
    constants: list[bytes] = []
    order: list[int] = []
    base = {"time": 0, "double": 1, "integers": 1 + doubles}
    waiting: list[bytes] = []

    def flush() -> None:
        if waiting:
            order.append(1 + doubles + runs + len(constants))
            constants.append(b"".join(waiting))
            waiting.clear()

    for piece in pieces.parts:
        if isinstance(piece, Gap):
            flush()
            order.append(base[piece.kind] + piece.number)
        else:
            waiting.append(piece)
    flush()
    return tuple(constants), picker(order)


def picker(indexes: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """`itemgetter` for any number of indexes."""
    if not indexes:
        return lambda _: ()
    if len(indexes) == 1:
        only = indexes[0]
        return lambda pool: (pool[only],)
    return itemgetter(*indexes)
