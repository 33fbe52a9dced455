"""Generated pages mean the same to this parser and to the official Python client's."""

from __future__ import annotations

import math
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text

from syntra.telemetry.collect.prometheus.exposition import Exposition, Limits, read_page
from syntra.telemetry.collect.prometheus.lines import BadExposition
from tests.telemetry.collect.prometheus.decoded import TIME_NS, pages

quick = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

_names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,12}x", fullmatch=True)
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)
_label_names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,6}x", fullmatch=True)
_values = st.floats() | st.integers(-(10**12), 10**12).map(float)
_counts = st.integers(0, 10**9)
_help = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


class Page:
    """Some families as a collector."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> list[Metric]:
        return self.families


@st.composite
def families(draw: st.DrawFn) -> list[Metric]:
    found: list[Metric] = []
    for number, name in enumerate(draw(st.lists(_names, max_size=5, unique=True))):
        names = draw(st.lists(_label_names, max_size=3, unique=True))
        rows = draw(
            st.lists(st.lists(_texts, min_size=len(names), max_size=len(names)).map(tuple), max_size=4, unique=True)
        )
        kind = draw(st.sampled_from(["counter", "gauge", "histogram", "summary", "info", "stateset"]))
        found.append(_family(draw, kind, f"{name}{number}", names, rows))
    return found


def _family(draw: st.DrawFn, kind: str, name: str, names: list[str], rows: list[Any]) -> Metric:
    text = draw(_help)
    made: Any
    if kind == "counter":
        made = CounterMetricFamily(name, text, labels=names)
        for row in rows:
            made.add_metric(row, float(draw(_counts)), created=draw(st.none() | st.floats(1, 2e9)))
    elif kind == "gauge":
        made = GaugeMetricFamily(name, text, labels=names)
        for row in rows:
            made.add_metric(row, draw(_values), timestamp=draw(st.none() | st.floats(1, 2e9)))
    elif kind == "histogram":
        made = HistogramMetricFamily(name, text, labels=names)
        for row in rows:
            bounds = sorted(draw(st.sets(st.floats(0.001, 1e6), max_size=4)))
            counts = sorted(draw(st.lists(_counts, min_size=len(bounds) + 1, max_size=len(bounds) + 1)))
            edges = [*map(repr, bounds), "+Inf"]
            made.add_metric(row, list(zip(edges, counts, strict=True)), sum_value=draw(st.floats(0, 1e9)))
    elif kind == "summary":
        made = SummaryMetricFamily(name, text, labels=names)
        for row in rows:
            made.add_metric(row, draw(_counts), draw(st.floats(0, 1e9)))
    elif kind == "info":
        made = InfoMetricFamily(name, text, labels=names)
        for row in rows:
            made.add_metric(row, {"version": draw(_texts)})
    else:
        made = StateSetMetricFamily(name, text, labels=names)
        for row in rows:
            made.add_metric(row, {"on": draw(st.booleans()), "off": draw(st.booleans())})
    return made  # type: ignore[no-any-return]


def theirs(families: Any) -> list[tuple[Any, ...]]:
    """What the client library has read. A label with an empty value is no label, as in Prometheus."""
    return [
        (one.name, tuple(sorted((k, v) for k, v in one.labels.items() if v)), _same(one.value), _time(one.timestamp))
        for family in families
        for one in family.samples
    ]


def ours(exposition: Exposition) -> list[tuple[Any, ...]]:
    return [
        (one.series.name, one.series.labels, _same(one.value), round(one.time_ns / 1e6) if one.time_ns else None)
        for one in exposition.samples
    ]


def _same(value: float) -> object:
    return "NaN" if math.isnan(value) else value


def _time(time: Any) -> int | None:
    return round(float(time) * 1000) if time is not None else None


def page_of(found: list[Metric], generate: Any) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Page(found))
    return bytes(generate(registry))


def kinds(read: Exposition) -> dict[str, str]:
    return {name: family.kind for name, family in read.families.items()}


@quick
@given(families())
def test_text_means_the_same(found: list[Metric]) -> None:
    page = page_of(found, generate_latest)
    read = read_page(page, is_open=False, limits=Limits())
    expected = list(read_text(page.decode()))
    assert ours(read) == theirs(expected)
    for family in expected:
        if family.samples and family.type != "unknown":
            name = f"{family.name}_total" if family.type == "counter" else family.name
            # The client strips every kind of blank of a help text; the format knows only two.
            ours_of = read.families[name]
            assert (ours_of.kind, ours_of.help.strip()) == (family.type, family.documentation.strip())


@quick
@given(families())
def test_openmetrics_means_the_same(found: list[Metric]) -> None:
    page = page_of(found, generate_open)
    read = read_page(page, is_open=True, limits=Limits())
    expected = list(read_open(page.decode()))  # type: ignore[no-untyped-call]
    assert ours(read) == theirs(expected)
    for family in expected:
        assert (read.families[family.name].kind, read.families[family.name].help) == (family.type, family.documentation)


@quick
@given(families(), st.booleans())
def test_what_is_encoded_can_be_read_twice(found: list[Metric], is_open: bool) -> None:
    page = page_of(found, generate_open if is_open else generate_latest)
    known = pages()
    first = known.read(page, is_open=is_open, time_ns=TIME_NS)
    second = known.read(page, is_open=is_open, time_ns=TIME_NS)
    assert first == second
    has_own_times = any(sample.timestamp is not None for family in found for sample in family.samples)
    assert known.reads == (2 if has_own_times else 1)


@settings(quick, max_examples=80)
@given(families(), st.booleans(), st.integers(0, 2**32))
def test_a_damaged_page_is_read_or_refused(found: list[Metric], is_open: bool, seed: int) -> None:
    rng = random.Random(seed)
    page = bytearray(page_of(found, generate_open if is_open else generate_latest))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(page) + 1)
        if rng.random() < 0.5:
            page[at:at] = rng.choice(
                [b"\n", b"{", b"}", b'"', b"\\", b",", b" ", b"#", b"\xff", b"\0", b"e", b"-", b"="]
            )
        else:
            del page[at : at + rng.randrange(1, 5)]
    known = pages()
    with_known = pages()
    with_known.read(page_of(found, generate_open if is_open else generate_latest), is_open=is_open, time_ns=TIME_NS)
    try:
        fresh = known.read(bytes(page), is_open=is_open, time_ns=TIME_NS)
    except BadExposition:
        # Whatever the page before was.
        try:
            with_known.read(bytes(page), is_open=is_open, time_ns=TIME_NS)
        except BadExposition:
            return
        raise AssertionError("a known page was read more loosely than a new one") from None
    assert with_known.read(bytes(page), is_open=is_open, time_ns=TIME_NS).data == fresh.data
