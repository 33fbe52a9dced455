"""Pages in protobuf: the same series as in text, and native histograms with every bucket in its place."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.telemetry.collect.prometheus.exposition import Limits
from syntra.telemetry.collect.prometheus.lines import BadExposition
from syntra.telemetry.collect.prometheus.native import MOST_BUCKETS
from syntra.telemetry.collect.prometheus.pages import Scraped
from syntra.telemetry.collect.prometheus.target import ACCEPT_NATIVE
from syntra.telemetry.otlp.memory import resident_bytes
from syntra.telemetry.wire import exposition_pb2 as wire
from tests.engine import missing, wait_until
from tests.telemetry.collect.prometheus.decoded import TIME_NS, all_metrics, labels, metrics, pages, series
from tests.telemetry.real_collector import free_port


def page(*families: wire.Family) -> bytes:
    made = b""
    for family in families:
        body = family.SerializeToString()
        length = len(body)
        while length > 127:
            made += bytes((length & 127 | 128,))
            length >>= 7
        made += bytes((length,)) + body
    return made


def read(*families: wire.Family, limits: Limits | None = None) -> Scraped:
    return pages(limits=limits).read_protobuf(page(*families), time_ns=TIME_NS)


def histogram(**fields: object) -> wire.Family:
    one = wire.Histogram(**fields)  # type: ignore[arg-type]  # each test names fields of its own
    sample = wire.Sample(label=[wire.Label(name="code", value="200")], histogram=one)
    return wire.Family(name="latency_seconds", kind=wire.HISTOGRAM, unit="seconds", help="How long.", sample=[sample])


NATIVE = histogram(
    count=17,
    sum=12.5,
    schema=3,
    zero_count=2,
    zero_threshold=1e-9,
    positive_span=[wire.Span(offset=-2, length=2), wire.Span(offset=3, length=1)],
    positive_delta=[1, 4, -3],
    negative_span=[wire.Span(offset=1, length=1)],
    negative_delta=[7],
    created=wire.Time(seconds=1_600_000_000, nanos=500_000_000),
    exemplars=[wire.Exemplar(label=[wire.Label(name="trace_id", value="0a" * 16)], value=0.3)],
)


def test_a_native_histogram_is_an_exponential_one() -> None:
    scraped = read(NATIVE)
    [metric] = metrics(scraped).values()
    assert (metric.name, metric.unit, metric.description) == ("latency_seconds", "s", "How long.")
    assert labels(metric.metadata) == {"prometheus.type": "histogram"}
    body = metric.exponential_histogram
    assert body.aggregation_temporality == 2
    [point] = body.data_points
    assert labels(point.attributes) == {"code": "200"}
    assert (point.count, point.sum, point.scale) == (17, 12.5, 3)
    assert (point.zero_count, point.zero_threshold) == (2, 1e-9)
    assert (point.positive.offset, list(point.positive.bucket_counts)) == (-3, [1, 5, 0, 0, 0, 2])
    assert (point.negative.offset, list(point.negative.bucket_counts)) == (0, [7])
    assert point.time_unix_nano == TIME_NS
    assert point.start_time_unix_nano == 1_600_000_000_500_000_000
    assert [one.trace_id.hex() for one in point.exemplars] == ["0a" * 16]
    assert not point.HasField("min")
    assert (scraped.samples, scraped.kept, scraped.points) == (1, 1, 1)


@given(
    st.integers(-4, 8),
    st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(0, 2**40), min_size=1, max_size=5)), min_size=1),
    st.integers(-1000, 1000),
)
def test_every_bucket_has_the_bounds_that_prometheus_gives_it(
    schema: int, spans: list[tuple[int, list[int]]], first: int
) -> None:
    expected: dict[int, int] = {}
    wire_spans, counts, index = [], [], first
    for number, (gap, values) in enumerate(spans):
        offset = first if number == 0 else gap
        index += 0 if number == 0 else gap
        wire_spans.append(wire.Span(offset=offset, length=len(values)))
        for value in values:
            expected[index] = value
            index += 1
        counts += values
    deltas = [value - before for value, before in zip(counts, [0, *counts], strict=False)]
    found = read(histogram(count=sum(counts), schema=schema, positive_span=wire_spans, positive_delta=deltas))
    [metric] = metrics(found).values()
    [point] = metric.exponential_histogram.data_points
    assert point.count == sum(point.positive.bucket_counts)
    # Bucket n of Prometheus ends at base**n; index i of OTLP begins at base**i.
    got = {point.positive.offset + at + 1: value for at, value in enumerate(point.positive.bucket_counts) if value}
    assert got == {index: value for index, value in expected.items() if value}


def test_what_is_no_exponential_histogram_is_kept_by_its_buckets_or_left_out() -> None:
    buckets = [wire.Bucket(cumulative_count=3, upper_bound=1.0)]
    spans = [wire.Span(offset=0, length=1)]
    whole = {"count": 4, "sum": 2.0, "schema": 3, "positive_span": spans}
    for fields in (
        {**whole, "schema": -53, "positive_delta": [4]},
        {**whole, "positive_count": [4.0], "count_float": 4.0},
    ):
        assert metrics(read(histogram(**fields, bucket=buckets)))["latency_seconds"].WhichOneof("data") == "histogram"
    gauge = histogram(**whole, positive_delta=[4])
    gauge.kind = wire.GAUGE_HISTOGRAM
    assert metrics(read(gauge)) == {}


def test_a_native_histogram_that_is_gone_ends_and_one_that_becomes_classic_too() -> None:
    known = pages()
    first = known.read_protobuf(page(NATIVE), time_ns=TIME_NS)
    assert known.read_protobuf(page(NATIVE), time_ns=TIME_NS + 1).stale == (b"", 0)
    assert series([first.stale[0]]) == {}
    classic = histogram(count=1, sum=1.0, bucket=[wire.Bucket(cumulative_count=1, upper_bound=1.0)])
    now = known.read_protobuf(page(classic), time_ns=TIME_NS + 2)
    data, points = now.stale
    assert points == 1
    [metric] = all_metrics([data])
    [point] = metric.exponential_histogram.data_points
    assert (point.flags, labels(point.attributes), point.time_unix_nano) == (1, {"code": "200"}, TIME_NS + 2)
    data, points = known.end(TIME_NS + 3)
    assert points == 1
    assert next(all_metrics([data])).WhichOneof("data") == "histogram"


def test_every_other_kind_reads_as_from_text() -> None:
    exemplar = wire.Exemplar(label=[wire.Label(name="a", value="b")], value=0.5, time=wire.Time(seconds=1_700_000_000))
    begun = wire.Time(seconds=1_600_000_000)
    families = [
        wire.Family(
            name="hits_total",
            kind=wire.COUNTER,
            sample=[wire.Sample(counter=wire.Value(value=5, exemplar=exemplar, created=begun))],
        ),
        wire.Family(name="temperature", kind=wire.GAUGE, sample=[wire.Sample(gauge=wire.Value(value=-1.5))]),
        wire.Family(
            name="other", kind=wire.UNTYPED, sample=[wire.Sample(untyped=wire.Value(value=2), timestamp_ms=1_000)]
        ),
        wire.Family(
            name="size",
            kind=wire.SUMMARY,
            sample=[wire.Sample(summary=wire.Summary(count=2, sum=3, quantile=[wire.Quantile(quantile=0.5, value=1)]))],
        ),
        histogram(count=3, sum=1.0, bucket=[wire.Bucket(cumulative_count=2, upper_bound=0.5, exemplar=exemplar)]),
    ]
    scraped = read(*families)
    assert series(data for data, _ in scraped.data) == {
        "hits_total {}": 5,
        "temperature {}": -1.5,
        "other {}": 2,
        "size_count {}": 2,
        "size_sum {}": 3,
        'size {"quantile": "0.5"}': 1,
        'latency_seconds_count {"code": "200"}': 3,
        'latency_seconds_sum {"code": "200"}': 1,
        'latency_seconds_bucket {"code": "200", "le": "0.5"}': 2,
        'latency_seconds_bucket {"code": "200", "le": "inf"}': 3,
    }
    found = metrics(scraped)
    [hits] = found["hits_total"].sum.data_points
    assert hits.start_time_unix_nano == 1_600_000_000 * 10**9
    assert [one.time_unix_nano for one in hits.exemplars] == [1_700_000_000 * 10**9]
    assert found["other"].gauge.data_points[0].time_unix_nano == 10**9
    # The start of the counter is not a sample of its own.
    assert (scraped.samples, scraped.kept, scraped.points) == (9, 9, 5)


def test_a_page_that_is_cut_or_damaged_is_refused_whole() -> None:
    whole = page(NATIVE, NATIVE)
    ends = {0, len(page(NATIVE)), len(whole)}
    for end in range(len(whole)):
        if end in ends:
            assert pages().read_protobuf(whole[:end], time_ns=TIME_NS).samples == end // len(page(NATIVE))
        else:
            with pytest.raises(BadExposition, match="cannot read the page"):
                pages().read_protobuf(whole[:end], time_ns=TIME_NS)
    for damaged in (b"\xff\xff\xff\xff\xff\xff", b"\x02\xff\xff", b"<html>", b"hits 5\n"):
        with pytest.raises(BadExposition, match="cannot read the page"):
            pages().read_protobuf(damaged, time_ns=TIME_NS)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"positive_span": [wire.Span(offset=0, length=2)], "positive_delta": [1]}, "do not fit together"),
        ({"positive_span": [wire.Span(offset=0, length=2)], "positive_delta": [1, -2]}, "less than nothing"),
        (
            {"positive_span": [wire.Span(length=1), wire.Span(offset=-1, length=1)], "positive_delta": [1, 1]},
            "overlap",
        ),
        (
            {"positive_span": [wire.Span(length=1), wire.Span(offset=2**31 - 1, length=1)], "positive_delta": [1, 1]},
            f"more than {MOST_BUCKETS} buckets",
        ),
    ],
)
def test_a_histogram_that_cannot_be_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(BadExposition, match=reason):
        read(histogram(**fields))


def test_limits_hold_and_filters_work() -> None:
    with pytest.raises(BadExposition, match="2 samples, more than 1"):
        read(NATIVE, wire.Family(name="a", sample=[wire.Sample(counter=wire.Value(value=1))]), limits=Limits(samples=1))
    many = wire.Family(name="a", kind=wire.GAUGE, sample=[wire.Sample(gauge=wire.Value(value=1))] * 6)
    with pytest.raises(BadExposition, match="more than 5 samples"):
        read(many, limits=Limits(samples=1))
    with pytest.raises(BadExposition, match="1 labels, more than 0"):
        read(NATIVE, limits=Limits(labels=0))
    with pytest.raises(BadExposition, match="longer than 3 bytes"):
        read(NATIVE, limits=Limits(label_bytes=3))
    none = pages(lambda name: name != "latency_seconds").read_protobuf(page(NATIVE), time_ns=TIME_NS)
    assert (none.samples, none.kept, none.points, none.data) == (1, 0, 0, [])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x0a\x01a\x18\x01" + b"\x22\x00" * 2_000_000, "more than 250000 samples"),
        (b"\x0a\x01a\x18\x01" + b"\x22\x80\x89\x7a" + b"\x0a\x00" * 1_000_000, "a sample of more than"),
        (b"\x12\x00" * 2_000_000, "a sample of more than"),
    ],
    ids=["empty samples", "empty labels", "many heads"],
)
def test_a_page_of_empty_messages_costs_little_memory(body: bytes, reason: str) -> None:
    length = len(body)
    whole = bytes((length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21)) + body
    before = resident_bytes()
    with pytest.raises(BadExposition, match=reason):
        pages().read_protobuf(whole, time_ns=TIME_NS)
    assert resident_bytes() - before < 100 << 20


@pytest.fixture(scope="module")
def prometheus_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus's own metrics."""
    program = shutil.which("prometheus")
    if program is None:
        missing("no prometheus; install it (Debian: prometheus)")
    assert program is not None, "cannot happen because the test is skipped"
    folder: Path = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text("{}")
    port = free_port()
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}/metrics"
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: _answers(url), "Prometheus", 60)
            yield url
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def test_a_real_page_has_the_same_series_in_protobuf_as_in_text(prometheus_page: str) -> None:
    before = _about(pages().read(_fetched(prometheus_page, "text/plain"), is_open=False, time_ns=TIME_NS))
    binary = pages().read_protobuf(_fetched(prometheus_page, ACCEPT_NATIVE), time_ns=TIME_NS)
    after = _about(pages().read(_fetched(prometheus_page, "text/plain"), is_open=False, time_ns=TIME_NS))
    found = _about(binary)
    # Prometheus has just started: series still appear.
    assert before.keys() <= found.keys() <= after.keys()
    assert found == {key: after[key] for key in found}
    assert len(found) > 150
    assert binary.samples == binary.kept > 250


def _fetched(url: str, accept: str) -> bytes:
    asked = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        is_protobuf = answer.headers.get_content_type() == "application/vnd.google.protobuf"
        assert is_protobuf is (accept == ACCEPT_NATIVE)
        body: bytes = answer.read()
        return body


def _about(scraped: Scraped) -> dict[str, tuple[str, str]]:
    """Kind and description of each series."""
    found: dict[str, tuple[str, str]] = {}
    for metric in all_metrics(data for data, _ in scraped.data):
        kind = metric.WhichOneof("data")
        assert kind is not None
        for point in getattr(metric, kind).data_points:
            found[f"{metric.name} {sorted(labels(point.attributes).items())}"] = (kind, metric.description)
    return found
