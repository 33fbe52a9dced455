"""Durations in logarithmic buckets, and a service's own 99th percentile, learned online with decay. Pure.

Bucket `i` ends at `upper_bound(i)`; four buckets make a factor of two, so a bucket is 19 % wide. Bucket 80 ends at one
millisecond, and every fourth bound is that times a power of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log2

BUCKETS = 260
"""Enough for any 64-bit number of nanoseconds."""

PER_DOUBLING = 4
MILLISECOND_BUCKET = 80
OFFSET = MILLISECOND_BUCKET - PER_DOUBLING * log2(1e6) + 1 - 1e-9
"""`int(log2(ns) * PER_DOUBLING + OFFSET)` is the bucket; a bound belongs to the bucket that it ends."""

NEVER_SLOW = 1 << 64
"""A limit in nanoseconds that no span exceeds."""

_QUANTILE = 0.99
_ENOUGH = 200.0
_DECAY = 0.95


def bucket_of(nanoseconds: int) -> int:
    """The bucket of a duration; 0 for zero and less."""
    return max(0, int(log2(nanoseconds) * PER_DOUBLING + OFFSET)) if nanoseconds > 0 else 0


def upper_bound(bucket: int) -> float:
    """The largest duration of a bucket in nanoseconds."""
    return 1e6 * float(2.0 ** ((bucket - MILLISECOND_BUCKET) / PER_DOUBLING))


def quantile(counts: Sequence[float], share: float) -> float | None:
    """The duration in nanoseconds that this share of the counts does not exceed; None without counts.

    Within a bucket, durations are taken as spread evenly.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted = share * total
    passed = 0.0
    for bucket, count in enumerate(counts):
        if count > 0 and passed + count >= wanted:
            lower = upper_bound(bucket - 1) if bucket else 0.0
            return lower + (upper_bound(bucket) - lower) * (wanted - passed) / count
        passed += count
    return upper_bound(len(counts) - 1)


class SlowLimit:
    """Learns above which duration a service's requests are slow.

    Older counts weigh less: half after about three and a half minutes of updates every 15 s.
    """

    def __init__(self) -> None:
        self._counts = [0.0] * BUCKETS
        self.nanoseconds = NEVER_SLOW

    def update(self, counts: Iterable[float]) -> None:
        """Take the counts of one interval, bucket by bucket."""
        self._counts = [_DECAY * old + new for old, new in zip(self._counts, counts, strict=True)]
        if sum(self._counts) < _ENOUGH:
            self.nanoseconds = NEVER_SLOW
            return
        # The whole bucket of the percentile is not slow: at most one request in a hundred is above its bound.
        allowed = (1 - _QUANTILE) * sum(self._counts)
        above = 0.0
        for bucket in range(BUCKETS - 1, -1, -1):
            above += self._counts[bucket]
            if above > allowed:
                self.nanoseconds = int(upper_bound(bucket))
                return
