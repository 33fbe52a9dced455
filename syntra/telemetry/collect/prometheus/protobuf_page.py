"""A metrics page in protobuf: delimited families, the only form in which native histograms are offered. Pure.

What the text formats can say, too, becomes samples as those have them, so that the same rules apply to both. A
histogram that is native is kept as such, and its buckets with bounds, which say the same less exactly, are left out:
Prometheus does so by default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.message import DecodeError

from syntra.telemetry.collect.prometheus.exposition import (
    LINE_BYTES,
    LINES_PER_SAMPLE,
    Exposition,
    Family,
    Limits,
    Sample,
    check_series,
)
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
# Wire types, and the tag of Family.sample (Protocol Buffers, "Encoding").
_NUMBER, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}
_SAMPLE = 4 << 3 | _LENGTH


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
        reader.read(body)
    exposition = Exposition(samples=reader.samples, families=reader.families, series=reader.series)
    return ProtobufPage(exposition=exposition, native=reader.native, created=reader.created)


def _messages(page: bytes) -> Iterator[bytes]:
    """The messages, each behind its length."""
    at = 0
    while at < len(page):
        length, at = _varint(page, at)
        if at + length > len(page):
            raise _cut()
        yield page[at : at + length]
        at += length


def _split(family: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a family with their tags. Decoded whole, empty messages would take forty times the page's size."""
    at = 0
    while at < len(family):
        start = at
        tag, at = _varint(family, at)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = _varint(family, at)
            at += length
        elif kind == _NUMBER:
            _, at = _varint(family, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise _damaged()
        if at > len(family):
            raise _damaged()
        yield tag, family[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most 35 bits, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            raise _cut()
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _cut() -> BadExposition:
    return BadExposition("cannot read the page: it is cut, or no delimited protobuf")


def _damaged() -> BadExposition:
    return BadExposition("cannot read the page: it has a damaged protobuf message")


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

    def read(self, body: bytes) -> None:
        """Add the samples of one family."""
        limits = self._limits
        head: list[bytes] = []
        samples: list[bytes] = []
        longest = LINE_BYTES + 2 * limits.labels * limits.label_bytes
        size = 0
        for tag, field in _split(body):
            is_sample = tag == _SAMPLE
            size += 0 if is_sample else len(field)
            if max(size, len(field)) > longest:
                raise BadExposition(f"cannot take the page: it has a sample of more than {longest} bytes")
            (samples if is_sample else head).append(field)
            if is_sample:
                self._make_room(len(samples))
        try:
            family = wire.Family.FromString(b"".join(head))
            self._add_family(family, samples)
        except DecodeError:
            raise _damaged() from None

    def _add_family(self, family: wire.Family, samples: list[bytes]) -> None:
        kind = _KINDS.get(family.kind)
        if kind is None:
            raise BadExposition(f"cannot read the type of {family.name[:80]}: {family.kind} is not one of the format's")
        about = Family()
        about.kind, about.help, about.unit = kind, family.help, family.unit
        self.families[family.name] = about
        for field in samples:
            # One at a time, so that the limits hold before the next is decoded.
            (sample,) = wire.Family.FromString(field).sample
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

    def _make_room(self, more: int = 1) -> None:
        most = LINES_PER_SAMPLE * self._limits.samples
        if len(self.samples) + len(self.native) + more > most:
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
