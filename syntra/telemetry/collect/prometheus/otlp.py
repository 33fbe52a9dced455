"""Metrics, scopes and data points as OTLP (opentelemetry/proto/metrics/v1/metrics.proto), with gaps for values. Pure.

Counters are monotonic sums; gauges, and what has no type, are gauges; info and state sets are sums that are not
monotonic. The start time is set only where the page says it (`_created`).
"""

from __future__ import annotations

from syntra.telemetry.collect.prometheus.lines import Exemplar, Labels
from syntra.telemetry.collect.prometheus.metrics import Metric, Point, Scope
from syntra.telemetry.collect.prometheus.pieces import (
    TIME,
    Gap,
    Pieces,
    attributes,
    double_field,
    doubles_field,
    field,
    fixed_field,
    key_value,
    text_field,
    varint,
)
from syntra.telemetry.collect.prometheus.units import ucum

# Tags are field number * 8 + wire type: 0 varint, 1 fixed64, 2 length.
POINT_DATA = 0x0A
_GAUGE, _SUM, _HISTOGRAM, _EXPONENTIAL, _SUMMARY = 0x2A, 0x3A, 0x4A, 0x52, 0x5A
_METADATA = 0x62
_START, _TIME = 0x11, 0x19
_CUMULATIVE = b"\x10\x02"
_MONOTONIC = b"\x18\x01"
_SUMS = frozenset({"counter", "info", "stateset"})
NATIVE = "native histogram"
"""A kind that no page names: a histogram which is an exponential one in OTLP."""
NO_RECORDED_VALUE = 1
_MAX_NS = 2**63


class Slots:
    """What goes into the gaps: numbers of samples, in the order of the gaps."""

    def __init__(self) -> None:
        self.doubles: list[int] = []
        self.runs: list[list[int]] = []
        """Each run is one gap: counts as they are, without the count before them in the run."""

    def double(self, index: int) -> Gap:
        """A gap for the value of a sample."""
        self.doubles.append(index)
        return Gap("double", len(self.doubles) - 1, 8)

    def counts(self, run: list[int]) -> Gap:
        """A gap for cumulative counts, each without the one before."""
        self.runs.append(run)
        return Gap("integers", len(self.runs) - 1, 8 * len(run))


def open_scope(scope: Scope) -> Pieces:
    """ScopeMetrics with its scope and schema URL; metrics are added to it."""
    made = Pieces()
    inner = text_field(0x0A, scope.name) + text_field(0x12, scope.version) + attributes(0x1A, scope.attributes)
    made.put((field(0x0A, inner) if inner else b"") + text_field(0x1A, scope.schema_url))
    return made


def close_metric(scope: Pieces, metric: Metric, data: Pieces) -> None:
    """Add a metric with these points to ScopeMetrics."""
    kind = metric.kind
    made = Pieces()
    made.put(metric_head(metric))
    if kind in _SUMS:
        data.put(_CUMULATIVE + (_MONOTONIC if kind == "counter" else b""))
    elif kind in ("histogram", NATIVE):
        data.put(_CUMULATIVE)
    made.message(_data_tag(kind), data)
    scope.message(0x12, made)


def metric_head(metric: Metric) -> bytes:
    """Name, description, unit and `prometheus.type`."""
    family = metric.family
    return (
        text_field(0x0A, metric.name)
        + text_field(0x12, family.help)
        + text_field(0x1A, ucum(family.unit))
        + field(_METADATA, key_value("prometheus.type", "histogram" if metric.kind == NATIVE else metric.kind))
    )


def point(metric: Metric, labels: Labels, one: Point, slots: Slots) -> tuple[Pieces, bytes]:
    """A data point, and its encoded attributes, which name its series."""
    made = Pieces()
    if metric.kind == "histogram":
        named = attributes(0x4A, labels)
        made.put(named + start_time(one))
        put_time(made, one)
        _put_histogram(made, one, slots)
        put_exemplars(made, 0x42, one)
    elif metric.kind == "summary":
        named = attributes(0x3A, labels)
        made.put(named + start_time(one))
        put_time(made, one)
        _put_summary(made, one, slots)
    else:
        assert one.value is not None, "cannot happen because points without a value are left out"
        named = attributes(0x3A, labels)
        made.put(named + start_time(one))
        put_time(made, one)
        made.gap(0x21, slots.double(one.value))
        put_exemplars(made, 0x2A, one)
    return made, named


def stale_metric(scope: Pieces, metric: Metric, points: list[bytes]) -> None:
    """Add a metric whose series, given by their attributes, have no value any more."""
    flags = varint(_flags_tag(metric.kind)) + varint(NO_RECORDED_VALUE)
    data = Pieces()
    for named in points:
        made = Pieces()
        made.put(named)
        made.gap(_TIME, TIME)
        made.put(flags)
        data.message(POINT_DATA, made)
    close_metric(scope, metric, data)


def _data_tag(kind: str) -> int:
    if kind in _SUMS:
        return _SUM
    return {"histogram": _HISTOGRAM, NATIVE: _EXPONENTIAL, "summary": _SUMMARY}.get(kind, _GAUGE)


def _flags_tag(kind: str) -> int:
    """Field 10 of a histogram's point, 8 of the others'."""
    return 0x50 if kind in ("histogram", NATIVE) else 0x40


def start_time(one: Point) -> bytes:
    """The field of the start, if the page says it."""
    if one.created is None or not 0 < one.created * 1e9 < _MAX_NS:
        return b""
    return fixed_field(_START, round(one.created * 1000) * 10**6)


def put_time(made: Pieces, one: Point) -> None:
    """Add the time of a point: its own, or a gap for that of the scrape."""
    _put_at(made, _TIME, one.time_ns)


def _put_at(made: Pieces, tag: int, time_ns: int | None) -> None:
    """A time; None is that of the scrape."""
    if time_ns is None:
        made.gap(tag, TIME)
    else:
        made.put(fixed_field(tag, time_ns))


def _put_histogram(made: Pieces, one: Point, slots: Slots) -> None:
    assert one.count is not None, "cannot happen because histograms without a count are left out"
    bounds = sorted(bound for bound in one.buckets if bound != float("inf"))
    run = [*(one.buckets[bound] for bound in bounds), one.count]
    # The count itself is the last sample of a run of its own.
    made.gap(0x21, slots.counts([one.count]))
    if one.sum is not None:
        made.gap(0x29, slots.double(one.sum))
    gap = slots.counts(run)
    made.put(b"\x32" + varint(gap.size))
    made.parts.append(gap)
    made.size += gap.size
    made.put(doubles_field(0x3A, bounds))


def _put_summary(made: Pieces, one: Point, slots: Slots) -> None:
    assert one.count is not None, "cannot happen because summaries without a count are left out"
    made.gap(0x21, slots.counts([one.count]))
    if one.sum is not None:
        made.gap(0x29, slots.double(one.sum))
    for quantile, index in sorted(one.quantiles.items()):
        inner = Pieces()
        inner.put(double_field(0x09, quantile))
        inner.gap(0x11, slots.double(index))
        made.message(0x32, inner)


def put_exemplars(made: Pieces, tag: int, one: Point) -> None:
    """Add the exemplars of a point as fields with this tag."""
    for exemplar in one.exemplars:
        inner = Pieces()
        if exemplar.time_ns is None:
            # It has the time of its sample.
            _put_at(inner, 0x11, one.time_ns)
        else:
            inner.put(fixed_field(0x11, exemplar.time_ns))
        inner.put(_exemplar(exemplar))
        made.message(tag, inner)


def _exemplar(one: Exemplar) -> bytes:
    """An Exemplar without its time; labels trace_id and span_id become its ids where they are valid."""
    named = dict(one.labels)
    made = double_field(0x19, one.value)
    for label, tag, size in (("span_id", 0x22, 8), ("trace_id", 0x2A, 16)):
        identifier = _hex(named.get(label, ""), size)
        if identifier:
            del named[label]
            made += field(tag, identifier)
    return made + attributes(0x3A, sorted(named.items()))


def _hex(text: str, size: int) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return b""
    return found if len(found) == size and any(found) else b""
