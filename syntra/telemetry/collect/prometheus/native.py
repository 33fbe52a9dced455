"""Native histograms of Prometheus as exponential histograms of OTLP. Pure.

The rules are those of "Prometheus and OpenMetrics Compatibility" in the OpenTelemetry specification ("Native
Histograms"): schemas from -4 to 8 are scales; what counts in fractions, may fall, or has bounds of its own is no
exponential histogram. Prometheus counts buckets from their upper bound, OTLP from their lower one: bucket 1 is index 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from syntra.telemetry.collect.prometheus.exposition import Family
from syntra.telemetry.collect.prometheus.lines import BadExposition, Exemplar, Labels
from syntra.telemetry.collect.prometheus.metrics import Metric, Point, Scope, scope_of
from syntra.telemetry.collect.prometheus.otlp import (
    NATIVE,
    POINT_DATA,
    close_metric,
    open_scope,
    put_exemplars,
    put_time,
    start_time,
)
from syntra.telemetry.collect.prometheus.pieces import (
    TIME,
    Gap,
    Pieces,
    attributes,
    double_field,
    field,
    fixed_field,
    varint,
)
from syntra.telemetry.collect.prometheus.stale import SeriesSet
from syntra.telemetry.wire import exposition_pb2 as wire
from syntra.utils.frozen import frozen

_SCHEMAS = range(-4, 9)
MOST_BUCKETS = 65_536
"""Of one histogram and sign. Gaps between spans become buckets of 0, and a span may begin anywhere."""


@frozen
class Buckets:
    """Counts in a row; the first has the index `offset`."""

    offset: int = 0
    counts: tuple[int, ...] = ()


@frozen
class NativeHistogram:
    """One sample. `labels` are without those of the scope; `point` has its times and exemplars."""

    name: str
    scope: Scope
    labels: Labels
    family: Family
    point: Point
    scale: int
    count: int
    total: float
    zero_count: int
    zero_threshold: float
    positive: Buckets
    negative: Buckets


def native_of(
    name: str, labels: Labels, one: wire.Histogram, family: Family, time_ns: int | None
) -> NativeHistogram | None:
    """The native histogram of a sample; None where it has none that OTLP can say. Raises BadExposition."""
    is_native = one.positive_span or one.negative_span or one.zero_threshold > 0 or one.zero_count > 0
    counts_fractions = one.count_float or one.zero_count_float or one.positive_count or one.negative_count
    if not is_native or counts_fractions or family.kind != "histogram" or one.schema not in _SCHEMAS:
        return None
    point = Point()
    point.time_ns = time_ns
    if one.HasField("created"):
        point.created = one.created.seconds + one.created.nanos / 1e9
    given = [*one.exemplars] or [bucket.exemplar for bucket in one.bucket if bucket.HasField("exemplar")]
    point.exemplars = [exemplar_of(exemplar) for exemplar in given]
    scope, own = scope_of(labels)
    return NativeHistogram(
        name=name,
        scope=scope,
        labels=own,
        family=family,
        point=point,
        scale=one.schema,
        count=one.count,
        total=one.sum,
        zero_count=one.zero_count,
        zero_threshold=one.zero_threshold,
        positive=_buckets(name, one.positive_span, one.positive_delta),
        negative=_buckets(name, one.negative_span, one.negative_delta),
    )


def _buckets(name: str, spans: Sequence[wire.Span], deltas: Sequence[int]) -> Buckets:
    """Counts from spans and from what each count has more than the one before."""
    if sum(span.length for span in spans) != len(deltas):
        raise BadExposition(f"cannot read {name[:80]}: its spans and its buckets do not fit together")
    if not deltas:
        return Buckets()
    if len(deltas) > MOST_BUCKETS:
        raise BadExposition(f"cannot take {name[:80]}: it has more than {MOST_BUCKETS} buckets")
    values = list(accumulate(deltas))
    if min(values) < 0:
        raise BadExposition(f"cannot read {name[:80]}: a bucket has less than nothing")
    counts: list[int] = []
    at = 0
    for number, span in enumerate(spans):
        if number:
            if span.offset < 0:
                raise BadExposition(f"cannot read {name[:80]}: its spans overlap")
            if len(counts) + span.offset > MOST_BUCKETS:
                raise BadExposition(f"cannot take {name[:80]}: it has more than {MOST_BUCKETS} buckets")
            counts += [0] * span.offset
        counts += values[at : at + span.length]
        at += span.length
    if len(counts) > MOST_BUCKETS:
        raise BadExposition(f"cannot take {name[:80]}: it has more than {MOST_BUCKETS} buckets")
    return Buckets(offset=spans[0].offset - 1, counts=tuple(counts))


def native_request(
    histograms: Sequence[NativeHistogram], keeps: Callable[[str], bool], resource: bytes, time_ns: int
) -> tuple[bytes, int, SeriesSet]:
    """A metrics request of those whose name `keeps` takes, its points, and their series."""
    scopes: dict[Scope, dict[str, tuple[Metric, dict[bytes, NativeHistogram]]]] = {}
    for one in histograms:
        if keeps(one.name):
            metrics = scopes.setdefault(one.scope, {})
            _, points = metrics.setdefault(one.name, (Metric(one.name, NATIVE, one.family), {}))
            # The first sample of a place counts, as in Prometheus.
            points.setdefault(attributes(0x0A, one.labels), one)
    series = SeriesSet()
    holder, count = Pieces(), 0
    holder.put(field(0x0A, resource))
    for scope, metrics in scopes.items():
        part = open_scope(scope)
        for metric, points in metrics.values():
            data = Pieces()
            for named, one in points.items():
                data.message(POINT_DATA, _point(named, one))
            close_metric(part, metric, data)
            series.add(scope, metric, [named for named, one in points.items() if one.point.time_ns is None])
            count += len(points)
        holder.message(0x12, part)
    if not count:
        return b"", 0, series
    request = Pieces()
    request.message(0x0A, holder)
    time = time_ns.to_bytes(TIME.size, "little")
    return b"".join(time if isinstance(piece, Gap) else piece for piece in request.parts), count, series


def _point(named: bytes, one: NativeHistogram) -> Pieces:
    """An ExponentialHistogramDataPoint."""
    made = Pieces()
    made.put(named + start_time(one.point))
    put_time(made, one.point)
    made.put(fixed_field(0x21, one.count) + double_field(0x29, one.total))
    made.put(b"\x30" + _zigzag(one.scale) + fixed_field(0x39, one.zero_count))
    made.put(_bucket_field(0x42, one.positive) + _bucket_field(0x4A, one.negative))
    put_exemplars(made, 0x5A, one.point)
    if one.zero_threshold:
        made.put(double_field(0x71, one.zero_threshold))
    return made


def _bucket_field(tag: int, buckets: Buckets) -> bytes:
    if not buckets.counts:
        return b""
    counts = b"".join(map(varint, buckets.counts))
    return field(tag, b"\x08" + _zigzag(buckets.offset) + field(0x12, counts))


def _zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def exemplar_of(one: wire.Exemplar) -> Exemplar:
    """An exemplar as the text formats have it."""
    time_ns = one.time.seconds * 10**9 + one.time.nanos if one.HasField("time") else None
    return Exemplar(labels=labels_of(one.label), value=one.value, time_ns=time_ns)


def labels_of(given: Sequence[wire.Label]) -> Labels:
    """Labels, sorted by name; one without a value is no label."""
    pairs = {one.name: one.value for one in given}
    return tuple(sorted((name, value) for name, value in pairs.items() if value))
