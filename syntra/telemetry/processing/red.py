"""Rate, errors and durations of every span, counted before sampling, by service, span name and kind. Pure.

A cell is a list of numbers, because the loop over spans adds to it millions of times a minute: one counter for each
bucket of `sampling.latency`, and behind them the places named below. Counters only grow; readers take differences.
A span that was sampled upstream counts as often as its `th` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syntra.telemetry.sampling.latency import BUCKETS, NEVER_SLOW, SlowLimit, bucket_of
from syntra.utils.frozen import frozen

SUM = BUCKETS
"""Place of the sum of durations in nanoseconds."""
ERRORS = BUCKETS + 1
"""Place of the number of spans with status ERROR."""
LIMIT = BUCKETS + 2
"""Place of the duration in nanoseconds above which a span is slow."""
CARRY = BUCKETS + 3
"""Place of the fraction of a span that adjusted counts have left over."""
_PLACES = BUCKETS + 4

SERVER = 2
CONSUMER = 5
REQUEST_KINDS = frozenset({SERVER, CONSUMER})
"""Spans of these kinds are the requests of a service; other kinds are its work inside and its calls."""

OTHER = b"other"
MAX_NAME = 256

_SUFFIX = 2

Cell = list[float]


class CellBudget:
    """How many cells all services have together, beside the `other` cells."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.overflowed = 0
        """Spans counted under the name `other`, because there was no cell left."""


class Cells(dict[bytes, Cell]):
    """The cells of one service by `spans.span_key`. A missing cell is made; at the limit it is the one of `other`."""

    def __init__(self, budget: CellBudget) -> None:
        super().__init__()
        self._budget = budget
        self._slow = SlowLimit()
        self._seen: list[float] = [0] * BUCKETS
        self._has_requests = False

    def __missing__(self, key: bytes) -> Cell:
        name, suffix = key[:-_SUFFIX], key[-_SUFFIX:]
        if len(name) > MAX_NAME:
            return self[name[:MAX_NAME] + suffix]
        if name != OTHER:
            if self._budget.used >= self._budget.limit:
                self._budget.overflowed += 1
                return self[OTHER + suffix]
            self._budget.used += 1
        cell: Cell = [0] * _PLACES
        self[key] = cell
        cell[LIMIT] = self._limit_for(kind_of(key))
        return cell

    def count(self, key: bytes, nanoseconds: int, weight: float) -> Cell:
        """Count a span that represents `weight` spans; return the cell. Fractions are carried over to later spans."""
        cell = self[key]
        exact = weight + cell[CARRY]
        times = int(exact)
        cell[CARRY] = exact - times
        cell[SUM] += max(0, nanoseconds) * times
        cell[bucket_of(nanoseconds)] += times
        return cell

    def learn(self) -> None:
        """Update what is slow for this service from the durations since the last call."""
        self._has_requests = any(kind_of(key) in REQUEST_KINDS for key in self)
        counts = totals(self, requests_only=self._has_requests)
        self._slow.update([max(0, new - old) for new, old in zip(counts, self._seen, strict=True)])
        self._seen = counts
        for key, cell in self.items():
            cell[LIMIT] = self._limit_for(kind_of(key))

    def remove(self, key: bytes) -> None:
        """Remove a cell that has not changed for long."""
        del self[key]
        if key[:-_SUFFIX] != OTHER:
            self._budget.used -= 1

    @property
    def slow_nanoseconds(self) -> int:
        """Above this duration a request of the service is slow."""
        return self._slow.nanoseconds

    def _limit_for(self, kind: int) -> int:
        """Slow is a word about requests. Where a service has none, as a batch job, it is about all of its spans."""
        return self._slow.nanoseconds if kind in REQUEST_KINDS or not self._has_requests else NEVER_SLOW


def kind_of(key: bytes) -> int:
    """The kind in a key."""
    return key[-1]


def totals(cells: Cells, *, requests_only: bool) -> list[float]:
    """The buckets of several cells, added up."""
    chosen = [cell for key, cell in cells.items() if not requests_only or kind_of(key) in REQUEST_KINDS]
    return [sum(column) for column in zip(*(cell[:BUCKETS] for cell in chosen), strict=True)] or [0] * BUCKETS


def counted(cell: Sequence[float]) -> int:
    """The number of spans in a cell."""
    return int(sum(cell[:BUCKETS]))


@frozen
class Series:
    """One cell as a reader sees it, since it was made."""

    name: str
    kind: int
    count: int
    errors: int
    sum_nanoseconds: float
    buckets: tuple[float, ...]
    since_ns: int


class Watched:
    """Follows the cells of one service for a reader: which have changed, since when they exist, which are idle."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._known: dict[bytes, tuple[int, int, int]] = {}

    def changed(self, now_ns: int, previous_ns: int, idle_limit: int) -> Iterator[Series]:
        """The cells that have changed since the last call. Cells idle for `idle_limit` calls are removed.

        `previous_ns` is the time of the last call: a cell that is new now has begun after it.
        """
        for key in list(self._cells):
            cell = self._cells[key]
            count = counted(cell)
            before, since, idle = self._known.get(key, (0, min(previous_ns, now_ns), 0))
            if count != before:
                self._known[key] = (count, since, 0)
                yield Series(
                    name=key[:-_SUFFIX].decode("utf-8", "replace"),
                    kind=kind_of(key),
                    count=count,
                    errors=int(cell[ERRORS]),
                    sum_nanoseconds=cell[SUM],
                    buckets=tuple(cell[:BUCKETS]),
                    since_ns=since,
                )
            elif idle + 1 >= idle_limit:
                self._cells.remove(key)
                self._known.pop(key, None)
            else:
                self._known[key] = (count, since, idle + 1)


class Recent:
    """The requests of one service between the last two updates."""

    def __init__(self) -> None:
        self._counts: list[float] = [0] * BUCKETS
        self._errors: float = 0
        self.buckets: list[float] = [0] * BUCKETS
        self.errors_per_sec = 0.0
        self.requests_per_sec = 0.0

    def update(self, cells: Cells, elapsed_secs: float) -> None:
        """Take the cells as they are now."""
        requests = any(kind_of(key) in REQUEST_KINDS for key in cells)
        counts = totals(cells, requests_only=requests)
        errors = sum(cell[ERRORS] for key, cell in cells.items() if not requests or kind_of(key) in REQUEST_KINDS)
        # A removed series takes its old counts with it, so a difference can be negative.
        self.buckets = [max(0, new - old) for new, old in zip(counts, self._counts, strict=True)]
        self.requests_per_sec = sum(self.buckets) / elapsed_secs
        self.errors_per_sec = max(0, errors - self._errors) / elapsed_secs
        self._counts, self._errors = counts, errors
