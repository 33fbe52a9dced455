"""A service's Prometheus endpoint: from the payload, back into it, and from the labels that people already use."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.metrics_payload import endpoint_of, parse_metrics, render_metrics
from syntra.model.spec import MetricsSpec
from syntra.model.spec_payload import fingerprint
from tests.model.samples import spec


def parsed(metrics: Any, port: int | None = 8080) -> MetricsSpec | None:
    return parse_metrics(Fields({"metrics": metrics}, "config"), port)


def test_every_key_is_optional_and_reads_back_as_it_was() -> None:
    assert parsed(None) is None
    assert parsed({}) == MetricsSpec()
    given = {"port": 9090, "path": "/m?x=y", "interval_seconds": 30, "metric_names": ["http_*", "!go_*"]}
    found = parsed({**given, "native_histograms": True})
    names = ("http_*", "!go_*")
    wanted = MetricsSpec(port=9090, path="/m?x=y", interval_secs=30.0, metric_names=names, native_histograms=True)
    assert found == wanted
    assert found is not None and parsed(render_metrics(found)) == found


@pytest.mark.parametrize(
    ("metrics", "field"),
    [
        ([], "config.metrics"),
        ({"port": 0}, "config.metrics.port"),
        ({"path": "metrics"}, "config.metrics.path"),
        ({"path": "/a b"}, "config.metrics.path"),
        ({"path": "/a\r\nX: y"}, "config.metrics.path"),
        ({"path": "/a#b"}, "config.metrics.path"),
        ({"interval_seconds": 0.5}, "config.metrics.interval_seconds"),
        ({"metric_names": ["a", "b c"]}, "config.metrics.metric_names[1]"),
        ({"metric_names": ["a"] * 101}, "config.metrics.metric_names"),
        ({"native_histograms": "yes"}, "config.metrics.native_histograms"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_its_field(metrics: Any, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parsed(metrics)
    assert refused.value.field == field


def test_a_port_is_needed_somewhere() -> None:
    with pytest.raises(InvalidField, match=r"metrics need a port here or in config\.port"):
        parsed({}, port=None)
    assert parsed({"port": 1}, port=None) == MetricsSpec(port=1)


def test_a_change_of_what_is_scraped_needs_no_new_container() -> None:
    assert fingerprint(spec(metrics=MetricsSpec(port=1))) == fingerprint(spec())


@pytest.mark.parametrize(
    ("labels", "endpoint"),
    [
        ({}, None),
        ({"prometheus.io/scrape": "false", "prometheus.io/port": "9"}, None),
        ({"prometheus.io/scrape": "true"}, MetricsSpec()),
        (
            {"prometheus.io/scrape": "True", "prometheus.io/port": "9", "prometheus.io/path": "/m"},
            MetricsSpec(port=9, path="/m"),
        ),
        ({"prometheus.io/scrape": "true", "prometheus.io/port": "99999"}, None),
        ({"prometheus.io/scrape": "true", "prometheus.io/path": "/a\r\nb"}, None),
    ],
)
def test_labels_name_an_endpoint_too(labels: dict[str, str], endpoint: MetricsSpec | None) -> None:
    assert endpoint_of(spec(labels=labels, port=80)) == endpoint


def test_the_spec_comes_before_the_labels_and_both_need_a_port() -> None:
    labels = {"prometheus.io/scrape": "true", "prometheus.io/port": "9"}
    assert endpoint_of(spec(labels=labels, metrics=MetricsSpec(port=7), port=80)) == MetricsSpec(port=7)
    assert endpoint_of(spec(labels={"prometheus.io/scrape": "true"}, port=None)) is None
