"""A metrics page in protobuf: delimited families, the only form in which native histograms are offered. Pure.

What the text formats can say, too, becomes samples as those have them, so that the same rules apply to both. A
histogram that is native is kept as such, and its buckets with bounds, which say the same less exactly, are left out:
Prometheus does so by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.message import DecodeError

from syntra.telemetry.collect.prometheus.exposition import Exposition, Family, Limits, Sample, check_series
from syntra.telemetry.collect.prometheus.lines import BadExposition, Exemplar, Labels, Series
from syntra.telemetry.collect.prometheus.native import NativeHistogram, exemplar_of, labels_of, native_of
from syntra.telemetry.wire import exposition_pb2 as wire
from syntra.utils.frozen import frozen

_KINDS = {
    wire.COUNTER: "counter",
    wire.GAUGE: "gauge",
    wire.SUMMARY: "summary",
    wire.UNTYPED: "unknown",
    wire.HISTOGRAM: "histogram",
    wire.GAUGE_HISTOGRAM: "gaugehistogram",
}
_MAX_MILLISECONDS = 2**63 // 10**6
SAMPLES_PER_LIMIT = 5
"""With what a filter on names leaves out. It bounds the memory for reading a page."""


@frozen
class ProtobufPage:
    """A page, read. `created` is how many samples say only when another one began."""

    exposition: Exposition
    native: list[NativeHistogram]
    created: int


def read_protobuf(page: bytes, limits: Limits, known: Mapping[bytes, Series]) -> ProtobufPage:
    """Read a page; `known` is `series` of an earlier one. Raises BadExposition."""
    reader = _Reader(limits, known)
    for body in _messages(page):
        try:
            family = wire.Family.FromString(body)
        except DecodeError:
            raise BadExposition("cannot read the page: it has a damaged protobuf message") from None
        reader.read(family)
    exposition = Exposition(samples=reader.samples, families=reader.families, series=reader.series)
    return ProtobufPage(exposition=exposition, native=reader.native, created=reader.created)


def _messages(page: bytes) -> Iterator[bytes]:
    """The messages, each behind its length as a varint."""
    at = 0
    while at < len(page):
        length = shift = 0
        while True:
            if at >= len(page) or shift > 28:
                raise BadExposition("cannot read the page: it is cut, or no delimited protobuf")
            byte = page[at]
            length |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                break
        if at + length > len(page):
            raise BadExposition("cannot read the page: it is cut, or no delimited protobuf")
        yield page[at : at + length]
        at += length


class _Reader:
    """Collects the samples of families."""

    def __init__(self, limits: Limits, known: Mapping[bytes, Series]) -> None:
        self.samples: list[Sample] = []
        self.families: dict[str, Family] = {}
        self.series: dict[bytes, Series] = {}
        self.native: list[NativeHistogram] = []
        self.created = 0
        self._known = known
        self._limits = limits
        self._time_ns: int | None = None

    def read(self, family: wire.Family) -> None:
        """Add the samples of one family."""
        kind = _KINDS.get(family.kind)
        if kind is None:
            raise BadExposition(f"cannot read the type of {family.name[:80]}: {family.kind} is not one of the format's")
        about = Family()
        about.kind, about.help, about.unit = kind, family.help, family.unit
        self.families[family.name] = about
        for sample in family.sample:
            self._time_ns = _time_ns(sample.timestamp_ms, family.name)
            labels = labels_of(sample.label)
            if kind in ("histogram", "gaugehistogram"):
                self._histogram(family.name, labels, sample.histogram, about)
            elif kind == "summary":
                summary = sample.summary
                for one in summary.quantile:
                    self._add(family.name, _with(labels, "quantile", one.quantile), one.value)
                self._add(f"{family.name}_sum", labels, summary.sum)
                self._add(f"{family.name}_count", labels, summary.count)
                self._begin(family.name, labels, summary)
            else:
                value = {"counter": sample.counter, "gauge": sample.gauge}.get(kind, sample.untyped)
                self._add(family.name, labels, value.value, _exemplar(value))
                self._begin(family.name, labels, value)

    def _histogram(self, name: str, labels: Labels, one: wire.Histogram, about: Family) -> None:
        native = native_of(name, labels, one, about, self._time_ns)
        if native is not None:
            self._make_room()
            check_series(Series(name, labels), self._limits.label_bytes + 1, self._limits)
            self.native.append(native)
            return
        suffix = "g" if about.kind == "gaugehistogram" else ""
        for bucket in one.bucket:
            count = bucket.cumulative_count_float or bucket.cumulative_count
            self._add(f"{name}_bucket", _with(labels, "le", bucket.upper_bound), count, _exemplar(bucket))
        self._add(f"{name}_{suffix}sum", labels, one.sum)
        self._add(f"{name}_{suffix}count", labels, one.count_float or one.count)
        self._begin(name, labels, one)

    def _begin(self, name: str, labels: Labels, one: wire.Value | wire.Summary | wire.Histogram) -> None:
        if one.HasField("created"):
            self.created += 1
            self._add(f"{name}_created", labels, one.created.seconds + one.created.nanos / 1e9)

    def _add(self, name: str, labels: Labels, value: float, exemplar: Exemplar | None = None) -> None:
        self._make_room()
        key = repr((name, labels)).encode(errors="surrogatepass")
        series = self.series.get(key) or self._known.get(key)
        if series is None:
            series = Series(name, labels)
            check_series(series, len(key), self._limits)
        self.series[key] = series
        self.samples.append(Sample(series, float(value), len(self.samples), False, self._time_ns, exemplar))

    def _make_room(self) -> None:
        most = SAMPLES_PER_LIMIT * self._limits.samples
        if len(self.samples) + len(self.native) >= most:
            raise BadExposition(f"cannot take the page: it has more than {most} samples")


def _with(labels: Labels, name: str, value: float) -> Labels:
    return (*labels, (name, repr(value)))


def _exemplar(holder: wire.Value | wire.Bucket) -> Exemplar | None:
    return exemplar_of(holder.exemplar) if holder.HasField("exemplar") else None


def _time_ns(milliseconds: int, name: str) -> int | None:
    if not milliseconds:
        return None
    if not 0 < milliseconds < _MAX_MILLISECONDS:
        raise BadExposition(f"cannot read the time of {name[:80]}: it is out of range")
    return milliseconds * 10**6
