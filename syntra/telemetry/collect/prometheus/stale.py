"""Which series a target had, and the last points of series that have disappeared. Pure.

A series that disappears, and every series of a target that cannot be scraped, gets one last point without a value
(`NO_RECORDED_VALUE`), as Prometheus writes a stale marker: a graph ends there, instead of staying flat.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from syntra.telemetry.collect.prometheus.metrics import Metric, Scope
from syntra.telemetry.collect.prometheus.otlp import open_scope, stale_metric
from syntra.telemetry.collect.prometheus.pieces import Gap, Pieces, field

_Key = tuple[Scope, str, str]


class SeriesSet:
    """Series by scope, name and kind of their metric, and by their encoded attributes."""

    def __init__(self) -> None:
        self._metrics: dict[_Key, tuple[Metric, set[bytes]]] = {}

    def __len__(self) -> int:
        return sum(len(points) for _, points in self._metrics.values())

    def add(self, scope: Scope, metric: Metric, encoded: Iterable[bytes]) -> None:
        """Add series of one metric."""
        self._metrics.setdefault((scope, metric.name, metric.kind), (_head(metric), set()))[1].update(encoded)

    def update(self, other: SeriesSet) -> None:
        """Add the series of another set. A metric is in one of them only."""
        self._metrics.update(other._metrics)

    def ended(self, now: SeriesSet | None, resource: bytes, time_ns: int) -> tuple[bytes, int]:
        """The last points of the series that are not in `now` (None: all of them), and how many; nothing for none."""
        by_scope: dict[Scope, list[tuple[Metric, list[bytes]]]] = {}
        for key, (metric, points) in self._metrics.items():
            stays = now._metrics.get(key) if now is not None else None
            gone = sorted(points - stays[1] if stays is not None else points)
            if gone:
                by_scope.setdefault(key[0], []).append((metric, gone))
        if not by_scope:
            return b"", 0
        holder = Pieces()
        holder.put(field(0x0A, resource))
        for scope, metrics in by_scope.items():
            part = open_scope(scope)
            for metric, gone in metrics:
                stale_metric(part, metric, gone)
            holder.message(0x12, part)
        request = Pieces()
        request.message(0x0A, holder)
        time = struct.pack("<Q", time_ns)
        data = b"".join(time if isinstance(piece, Gap) else piece for piece in request.parts)
        return data, sum(len(gone) for metrics in by_scope.values() for _, gone in metrics)


def _head(metric: Metric) -> Metric:
    """The metric without its points."""
    return Metric(metric.name, metric.kind, metric.family)
