"""What the encoder has written, read with OTLP's own messages."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric

from syntra.telemetry.collect.prometheus.exposition import Limits
from syntra.telemetry.collect.prometheus.pages import Pages, Scraped

TIME_NS = 1_700_000_000_123_456_789
OWN = (("service.name", "web"), ("service.instance.id", "10.0.0.1:80"))


def pages(metric_names: Any = None, limits: Limits | None = None) -> Pages:
    """The pages of a target of which everything is kept."""
    return Pages(OWN, metric_names or (lambda name: True), limits or Limits())


def read(text: str, *, is_open: bool = False) -> Scraped:
    """A single page."""
    return pages().read(text.encode(), is_open=is_open, time_ns=TIME_NS)


def request(*data: bytes) -> ExportMetricsServiceRequest:
    """One request of several."""
    return ExportMetricsServiceRequest.FromString(b"".join(data))


def metrics(scraped: Scraped) -> dict[str, Metric]:
    """The metrics of a page, by name; it may have each name once."""
    found = list(all_metrics(data for data, _ in scraped.data))
    made = {metric.name: metric for metric in found}
    assert len(made) == len(found)
    return made


def all_metrics(data: Iterable[bytes]) -> Iterator[Metric]:
    """The metrics of requests."""
    for resource in request(*data).resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def labels(attributes: Any) -> dict[str, str]:
    """Attributes as a map."""
    return {one.key: one.value.string_value for one in attributes}


def series(data: Iterable[bytes]) -> dict[str, float]:
    """Every value as Prometheus names it: histograms and summaries are taken apart again. Stale points are left out."""
    found: dict[str, float] = {}
    for metric in all_metrics(data):
        kind = metric.WhichOneof("data")
        assert kind is not None
        body = getattr(metric, kind)
        if kind in ("sum", "histogram"):
            assert body.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
        for point in body.data_points:
            if point.flags & 1:
                continue
            named = labels(point.attributes)
            if kind in ("gauge", "sum"):
                found[_key(metric.name, named)] = point.as_double
                continue
            found[_key(f"{metric.name}_count", named)] = point.count
            if kind == "summary" or point.HasField("sum"):
                found[_key(f"{metric.name}_sum", named)] = point.sum
            if kind == "summary":
                for one in point.quantile_values:
                    found[_key(metric.name, {**named, "quantile": _edge(one.quantile)})] = one.value
                continue
            assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
            total = 0
            for bound, count in zip([*point.explicit_bounds, math.inf], point.bucket_counts, strict=True):
                total += count
                found[_key(f"{metric.name}_bucket", {**named, "le": _edge(bound)})] = total
            assert total == point.count
    return found


def normal(name: str, named: dict[str, str], value: float) -> tuple[str, float]:
    """A sample of another reader in the same form."""
    edges = {key: _edge(float(text)) if key in ("le", "quantile") else text for key, text in named.items() if text}
    return _key(name, edges), value


def _edge(value: float) -> str:
    return repr(float(value))


def _key(name: str, named: dict[str, str]) -> str:
    return f"{name} {json.dumps(named, sort_keys=True)}"
