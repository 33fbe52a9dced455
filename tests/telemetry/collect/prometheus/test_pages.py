"""Pages become OTLP metrics by the rules of the compatibility specification, and what stays is read once."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from syntra.telemetry.collect.prometheus.exposition import Limits
from syntra.telemetry.collect.prometheus.lines import BadExposition
from syntra.telemetry.collect.prometheus.target import name_filter
from tests.telemetry.collect.prometheus.decoded import (
    TIME_NS,
    all_metrics,
    labels,
    metrics,
    pages,
    read,
    request,
    series,
)

PAGE = """# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027
http_requests_total{method="post",code="400"} 3
# A comment, and an empty line

# TYPE temperature gauge
temperature -0.5e1
untyped_thing +Inf
# TYPE rpc_seconds histogram
rpc_seconds_bucket{le="0.1"} 3
rpc_seconds_bucket{le="1"} 5
rpc_seconds_bucket{le="+Inf"} 7
rpc_seconds_sum 4.25
rpc_seconds_count 7
# TYPE gc_seconds summary
gc_seconds{quantile="0.5"} 0.25
gc_seconds{quantile="1"} NaN
gc_seconds_sum 9
gc_seconds_count 12
"""


def points(metric: Metric) -> list[object]:
    return list(getattr(metric, str(metric.WhichOneof("data"))).data_points)


def test_each_type_becomes_its_kind_with_the_time_of_the_scrape() -> None:
    found = metrics(read(PAGE))
    counter = found["http_requests_total"]
    assert counter.sum.is_monotonic and counter.description == "The total number of HTTP requests."
    assert {(labels(p.attributes)["code"], p.as_double) for p in counter.sum.data_points} == {("200", 1027), ("400", 3)}
    assert found["temperature"].gauge.data_points[0].as_double == -5
    assert found["untyped_thing"].gauge.data_points[0].as_double == math.inf
    kinds = {name: labels(metric.metadata)["prometheus.type"] for name, metric in found.items()}
    assert kinds == {
        "http_requests_total": "counter",
        "temperature": "gauge",
        "untyped_thing": "unknown",
        "rpc_seconds": "histogram",
        "gc_seconds": "summary",
    }
    [histogram] = found["rpc_seconds"].histogram.data_points
    assert (list(histogram.explicit_bounds), list(histogram.bucket_counts)) == ([0.1, 1], [3, 2, 2])
    assert (histogram.count, histogram.sum) == (7, 4.25)
    [summary] = found["gc_seconds"].summary.data_points
    assert (summary.count, summary.sum, summary.quantile_values[0].value) == (12, 9, 0.25)
    assert math.isnan(summary.quantile_values[1].value)
    for metric in found.values():
        for point in points(metric):
            # Without `_created` the start is not known.
            assert (point.time_unix_nano, point.start_time_unix_nano) == (TIME_NS, 0)  # type: ignore[attr-defined]


def test_the_resource_is_the_target_with_what_it_says_of_itself() -> None:
    page = '# TYPE target_info gauge\ntarget_info{version="1.2",service_name="liar",job="x",instance="y"} 1\nup_to 1\n'
    page = page.replace("service_name", "service.name")
    scraped = read(page.replace("{version", '{"region"="eu",version').replace("service.name", '"service.name"'))
    [resource] = request(scraped.data[0][0]).resource_metrics
    assert labels(resource.resource.attributes) == {
        "service.name": "web",
        "service.instance.id": "10.0.0.1:80",
        "version": "1.2",
        "region": "eu",
    }
    assert [metric.name for metric in all_metrics([scraped.data[0][0]])] == ["up_to"]


def test_scope_labels_become_the_scope() -> None:
    scraped = read('a{otel_scope_name="lib",otel_scope_version="2",otel_scope_color="red",x="y"} 1\nb 2\n')
    [resource] = request(scraped.data[0][0]).resource_metrics
    first, second = resource.scope_metrics
    assert (first.scope.name, first.scope.version, labels(first.scope.attributes)) == ("lib", "2", {"color": "red"})
    assert labels(first.metrics[0].gauge.data_points[0].attributes) == {"x": "y"}
    assert (second.scope.name, second.metrics[0].name) == ("", "b")


def test_incomplete_histograms_are_left_out_and_their_neighbours_stay() -> None:
    page = (
        "# TYPE a histogram\n"
        'a_bucket{le="1"} 3\na_bucket{le="+Inf"} 3\n'  # no count
        'a_bucket{k="v",le="1"} 3\na_count{k="v"} 4\n'  # no sum, no +Inf
        "# TYPE b summary\nb_sum 3\n"  # no count
        "# TYPE c summary\nc_count 3\n"  # no sum
    )
    found = metrics(read(page))
    assert found.keys() == {"a", "c"}
    [histogram] = found["a"].histogram.data_points
    assert labels(histogram.attributes) == {"k": "v"} and not histogram.HasField("sum")
    assert (list(histogram.bucket_counts), histogram.count) == ([3, 1], 4)
    assert (found["c"].summary.data_points[0].count, found["c"].summary.data_points[0].sum) == (3, 0)


def test_buckets_that_fall_are_repaired() -> None:
    page = (
        '# TYPE a histogram\na_bucket{le="1"} 5\na_bucket{le="2"} 4\na_bucket{le="3"} NaN\na_bucket{le="+Inf"} 9\n'
        "a_sum 1\na_count 3\n"
    )
    [histogram] = metrics(read(page))["a"].histogram.data_points
    assert (list(histogram.bucket_counts), histogram.count) == ([5, 0, 0, 0], 5)


def test_times_of_the_page_are_kept() -> None:
    found = metrics(read("a 1 1395066363000\nb 2\n"))
    assert found["a"].gauge.data_points[0].time_unix_nano == 1395066363000 * 10**6
    assert found["b"].gauge.data_points[0].time_unix_nano == TIME_NS


OPEN = """# TYPE foo counter
# UNIT foo bytes_per_second
# HELP foo Says "hi"\\n.
foo_total{a="b"} 17.0 1520879607.789 # {TRACE,x="y"} 0.5 1520879607.123
foo_created{a="b"} 1520430000.123
# TYPE build info
build_info{version="1"} 1
# TYPE mode stateset
mode{mode="fast"} 1
# TYPE g gaugehistogram
g_bucket{le="+Inf"} 1
g_gcount 1
g_gsum 1
# EOF
""".replace("TRACE", 'trace_id="0af7651916cd43dd8448eb211c80319c",span_id="b7ad6b7169203331"')


def test_openmetrics_has_start_times_exemplars_units_and_more_types() -> None:
    found = metrics(read(OPEN, is_open=True))
    assert found.keys() == {"foo_total", "build_info", "mode"}
    foo = found["foo_total"]
    assert (foo.unit, foo.description) == ("By/s", 'Says "hi"\n.')
    [point] = foo.sum.data_points
    assert (point.time_unix_nano, point.start_time_unix_nano) == (1520879607789 * 10**6, 1520430000123 * 10**6)
    [exemplar] = point.exemplars
    assert exemplar.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert exemplar.span_id.hex() == "b7ad6b7169203331"
    assert (exemplar.as_double, exemplar.time_unix_nano) == (0.5, 1520879607123 * 10**6)
    assert labels(exemplar.filtered_attributes) == {"x": "y"}
    page = "# TYPE a counter\na_total 1 # {} 2\n# TYPE b counter\nb_total 1 5 # {} 2\n# EOF\n"
    times = [m.sum.data_points[0].exemplars[0].time_unix_nano for m in metrics(read(page, is_open=True)).values()]
    assert times == [TIME_NS, 5 * 10**9]
    for name in ("build_info", "mode"):
        assert not found[name].sum.is_monotonic and labels(found[name].metadata)["prometheus.type"] in (
            "info",
            "stateset",
        )


def test_blanks_around_the_tokens_of_the_text_format_mean_nothing() -> None:
    # Prometheus 2 takes blanks at the start of a line for a part of the name; the format's description does not.
    scraped = read('  a\t{ b = "c" , } \t 1 \n\t# TYPE a counter\n a 2  5 \n')
    assert series(data for data, _ in scraped.data) == {'a {"b": "c"}': 1, "a {}": 2}
    assert metrics(scraped)["a"].sum.data_points[1].time_unix_nano == 5_000_000


def test_names_and_labels_may_be_any_text() -> None:
    page = '# TYPE "my.metric" counter\n{"my.metric","label.one"="a\\"\\\\\\n",b="ü, {}=\\x"} 1\n'
    found = metrics(read(page))["my.metric"]
    assert labels(found.sum.data_points[0].attributes) == {"label.one": 'a"\\\n', "b": "ü, {}=\\x"}
    assert found.sum.is_monotonic


@pytest.mark.parametrize(
    ("page", "is_open", "reason"),
    [
        ("a", False, "not a sample"),
        ("a{} 1 2 3", False, "not a sample"),
        ('a{b="c} 1', False, "not a sample"),
        ('a{b="c",b="d"} 1', False, "the label b twice"),
        ("a 1_000", False, "not a number"),
        ("a 0x1p3", False, "not a number"),
        ("a 1e999", False, "out of range"),
        ("a 1\r", False, "not a number"),
        ("# TYPE a thing\na 1", False, "not one of the format's"),
        ('a{b="\udcff"} 1', False, "not valid UTF-8"),
        ('{b="c"} 1', False, "it has no name"),
        ("a 1 99999999999999999", False, "out of range"),
        ("a 1\n", True, "ends with `# EOF`"),
        ("a 1\n# EOF\nb 2\n", True, "ends with `# EOF`"),
        ("a  1\n# EOF\n", True, "not a sample"),
        ("\na 1\n# EOF\n", True, "no empty lines"),
        ("# hello\n# EOF\n", True, "no comments"),
    ],
)
def test_a_page_that_is_not_in_its_format_is_refused(page: str, is_open: bool, reason: str) -> None:
    with pytest.raises(BadExposition, match=reason):
        pages().read(page.encode(errors="surrogateescape"), is_open=is_open, time_ns=TIME_NS)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(samples=1), "it has 2 samples, more than 1"),
        (Limits(samples=0), "it has 2 lines, more than 0"),
        (Limits(labels=1), "it has 2 labels, more than 1"),
        (Limits(label_bytes=3), "longer than 3 bytes"),
    ],
)
def test_a_page_above_a_limit_is_refused_as_a_whole(limits: Limits, reason: str) -> None:
    with pytest.raises(BadExposition, match=reason):
        pages(limits=limits).read(b'a{b="c",d="long"} 1\ne 2\n', is_open=False, time_ns=TIME_NS)


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    "line",
    [
        b"a" + b" " * 500_000,
        b" " * 500_000,
        b"a{" + b" " * 500_000 + b"!} 1",
        b"a 1" + b" " * 500_000 + b"!",
        b"a" * 500_000,
        b"a " + b"1" * 500_000,
        b"a " + b"1" * 500_000 + b"!",
        b"a 1 " + b"1" * 500_000 + b"!",
        b"a" + b"{" * 500_000,
        b'a{b="' + b'\\"' * 250_000,
        b"a{" + b"b" * 500_000 + b"!} 1",
        b"# TYPE " + b"a" * 500_000 + b"!",
        b"# TYPE" + b" " * 500_000,
        b'# TYPE "' + b"\\a" * 250_000,
        b"a 1 # {" + b" " * 500_000,
    ],
    ids=range(15),
)
def test_no_line_takes_more_time_than_its_length(line: bytes, is_open: bool) -> None:
    # The time grows with the square of the length in a pattern that tries again: the test would not end.
    page = line + b"\n" + b"# EOF\n" * is_open
    with contextlib.suppress(BadExposition):
        pages().read(page, is_open=is_open, time_ns=TIME_NS)


def test_a_line_beyond_what_its_labels_may_have_is_refused() -> None:
    with pytest.raises(BadExposition, match="it has a line of 66004 bytes, more than 65536"):
        pages(limits=Limits(labels=0)).read(b"a 1 " + b" " * 66_000, is_open=False, time_ns=TIME_NS)


def test_the_filter_is_by_the_name_of_the_metric_and_the_limit_is_after_it() -> None:
    kept = pages(name_filter(["rpc_*", "temp*", "!*_nothing", "!tempo"]), Limits(samples=7))
    scraped = kept.read(f"{PAGE}tempo 1\n".encode(), is_open=False, time_ns=TIME_NS)
    assert metrics(scraped).keys() == {"rpc_seconds", "temperature"}
    assert (scraped.samples, scraped.kept) == (14, 6)
    assert kept.read(f"{PAGE}tempo 2\n".encode(), is_open=False, time_ns=TIME_NS).kept == 6
    assert kept.reads == 1


def test_a_page_in_which_only_values_change_is_read_once_and_says_the_same() -> None:
    rng = random.Random(5)
    known = pages()
    for number in range(20):
        text = PAGE.replace(" 1027", f" {rng.randrange(10**9)}").replace("-0.5e1", repr(rng.uniform(-1e300, 1e300)))
        text = text.replace(" 3\nrpc", f" {rng.randrange(6)}\nrpc").replace("4.25", rng.choice(["NaN", "1e-9", "+Inf"]))
        time_ns = TIME_NS + number
        scraped = known.read(text.encode(), is_open=False, time_ns=time_ns)
        fresh = pages().read(text.encode(), is_open=False, time_ns=time_ns)
        assert scraped == fresh
    assert known.reads == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda page: page.replace('code="400"', 'code="404"'),
        lambda page: page.replace("requests.", "answers."),
        lambda page: page.replace("TYPE temperature gauge", "TYPE temperature counter"),
        lambda page: page + "more 1\n",
        lambda page: page.replace("temperature -0.5e1\n", ""),
        lambda page: page.replace("-0.5e1", "-0.5e1 1395066363000"),
        lambda page: page.replace("temperature -", "temperature  -"),
    ],
)
def test_any_other_change_is_seen(change: Callable[[str], str]) -> None:
    known = pages()
    known.read(PAGE.encode(), is_open=False, time_ns=TIME_NS)
    changed = change(PAGE).encode()
    scraped = known.read(changed, is_open=False, time_ns=TIME_NS)
    assert known.reads == 2
    assert scraped.data == pages().read(changed, is_open=False, time_ns=TIME_NS).data


@pytest.mark.parametrize("value", ["1_0", "0x1", "", "1 ", "--1", "1e"])
def test_a_value_that_is_none_is_refused_on_a_known_page_too(value: str) -> None:
    known = pages()
    known.read(PAGE.encode(), is_open=False, time_ns=TIME_NS)
    with pytest.raises(BadExposition):
        known.read(PAGE.replace("-0.5e1", value + ("x" if value == "1 " else "")).encode(), is_open=False, time_ns=1)


def test_series_that_vanish_get_one_last_point_without_a_value() -> None:
    known = pages()
    known.read(PAGE.encode(), is_open=False, time_ns=TIME_NS)
    gone = PAGE.replace('http_requests_total{method="post",code="400"} 3\n', "").replace("rpc_seconds_count 7\n", "")
    data, count = known.read(gone.encode(), is_open=False, time_ns=TIME_NS + 5).stale
    assert count == 2
    ended = {metric.name: metric for metric in all_metrics([data])}
    [point] = ended["http_requests_total"].sum.data_points
    assert ended["http_requests_total"].sum.is_monotonic
    assert labels(point.attributes) == {"method": "post", "code": "400"}
    assert (point.flags, point.time_unix_nano, point.WhichOneof("value")) == (1, TIME_NS + 5, None)
    assert ended["rpc_seconds"].histogram.data_points[0].flags == 1
    assert known.read(gone.encode(), is_open=False, time_ns=TIME_NS + 6).stale == (b"", 0)


def test_a_target_that_ends_ends_all_its_series_once() -> None:
    known = pages()
    first = known.read(PAGE.encode(), is_open=False, time_ns=TIME_NS)
    data, count = known.end(TIME_NS + 1)
    assert count == first.points == sum(len(points(metric)) for metric in all_metrics([data]))
    assert series([data]) == {}
    assert known.end(TIME_NS + 2) == (b"", 0)
    assert known.read(PAGE.encode(), is_open=False, time_ns=TIME_NS + 3).stale == (b"", 0)


def test_series_with_times_of_their_own_do_not_end() -> None:
    known = pages()
    known.read(b"a 1 1395066363000\nb 1\n", is_open=False, time_ns=TIME_NS)
    assert known.end(TIME_NS)[1] == 1


def test_a_large_page_is_several_records_with_every_series_once() -> None:
    page = "".join(f'm{number // 100}{{i="{number}"}} {number}\n' for number in range(12_000))
    scraped = read(page)
    assert [count for _, count in scraped.data] == [5000, 5000, 2000]
    assert len(series(data for data, _ in scraped.data)) == 12_000
