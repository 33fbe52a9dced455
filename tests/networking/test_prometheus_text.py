"""One metric out of Prometheus' text format: whole, cut anywhere, escaped, and refused when it is malformed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.networking.errors import UnreadableMetrics
from syntra.networking.prometheus_text import Sample, samples
from tests.model.samples import quick

TEXT = """\
# HELP asked_total Requests.
# TYPE asked_total counter
asked_total{code="200",service="a@file"} 3
asked_total{code="500",service="a@file",} 4.5e+01 1395066363000
asked_total 7
asked_total_created{code="200"} nonsense
other{x="asked_total{"} 1
  asked_total { code = "404" , service = "b" } 1
asked_total{}2
"""
FOUND = [
    Sample({"code": "200", "service": "a@file"}, 3.0),
    Sample({"code": "500", "service": "a@file"}, 45.0),
    Sample({}, 7.0),
    Sample({"code": "404", "service": "b"}, 1.0),
    Sample({}, 2.0),
]


def test_exactly_the_metric_that_is_asked_for_is_read() -> None:
    assert samples(TEXT, "asked_total") == FOUND
    assert samples(TEXT, "asked") == []
    assert samples("", "asked_total") == []


def test_a_text_that_is_cut_is_refused_or_ends_between_lines() -> None:
    for cut in range(1, len(TEXT)):
        head = TEXT[:cut]
        if head.endswith("\n"):
            assert samples(head, "asked_total") == FOUND[: len(samples(head, "asked_total"))]
        else:
            with pytest.raises(UnreadableMetrics, match="cut off"):
                samples(head, "asked_total")


def test_escapes_in_values_are_undone() -> None:
    assert samples('m{a="x\\\\y\\"z\\n{}, "} 1\n', "m") == [Sample({"a": 'x\\y"z\n{}, '}, 1.0)]


@pytest.mark.parametrize(("text", "value"), [("+Inf", math.inf), ("-Inf", -math.inf), ("1e3", 1000.0), ("-0.5", -0.5)])
def test_numbers_are_go_s(text: str, value: float) -> None:
    assert samples(f"m {text}\n", "m") == [Sample({}, value)]
    [found] = samples("m NaN\n", "m")
    assert math.isnan(found.value)


@pytest.mark.parametrize(
    "line",
    [
        "m",
        "m ",
        "m x",
        "m 1 2 3",
        "m 1.2.3",
        "m .",
        "m 0x10",
        "m 1_000",
        "m{ 1",
        "m{a} 1",
        'm{a="1" 1',
        'm{a="1} 1',
        'm{a="1"b="2"} 1',
        'm{a="1",a="2"} 1',
        "m{a='1'} 1",
        'm{a="\\x"} 1',
        'm{1a="1"} 1',
        "m{,} 1",
        'm{a="1"}',
        "m{} 1 now",
    ],
)
def test_a_malformed_line_is_refused_and_quoted(line: str) -> None:
    with pytest.raises(UnreadableMetrics) as caught:
        samples(f"ok 1\n{line}\n", "m")
    assert repr(line) in str(caught.value)


@quick
@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,5}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        max_size=3,
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_is_written_by_the_rules_reads_back(labels: dict[str, str], value: float) -> None:
    shown = ",".join(
        f'{name}="' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        for name, text in labels.items()
    )
    assert samples(f"m{{{shown}}} {value!r}\n", "m") == [Sample(labels, value)]


@quick
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for whole in (text, f"{text}\n", f"m{text}\n", f"m{{{text}}} 1\n"):
        try:
            samples(whole, "m")
        except UnreadableMetrics as refused:
            assert len(str(refused)) < 700
