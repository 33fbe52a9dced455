"""Where a service's Prometheus endpoint is: from and to the `metrics` section, and from the labels people already use.

Every key is ours and optional. Values become part of a request to the service's own containers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from syntra.model.errors import InvalidField
from syntra.model.fields import Fields, Json
from syntra.model.spec import MetricsSpec, ServiceSpec

MAX_NAMES = 100
_PATH = re.compile(r"/[\x21-\x7e]{0,1023}")
# What is left out is written down, not what is allowed: a set of most of Unicode takes 5 ms to compile.
_GLOB = re.compile(r"!?[^\x00-\x20\x7f-\xa0]{1,256}")
_LABEL = "prometheus.io/"
_PORT = re.compile(r"[0-9]{1,5}")


def parse_metrics(config: Fields, port: int | None) -> MetricsSpec | None:
    """The endpoint that a `config` section names; `port` is the service's port. Raises InvalidField."""
    metrics = config.section("metrics")
    if metrics is None:
        return None
    own = metrics.integer("port", low=1, high=65535) if metrics.has("port") else None
    if own is None and port is None:
        raise InvalidField(metrics.at("port"), "is missing; metrics need a port here or in config.port")
    path = metrics.text("path", default="/metrics")
    if _PATH.fullmatch(path) is None or "#" in path:
        raise InvalidField(metrics.at("path"), "does not begin with `/`, or has spaces or characters to escape")
    names = metrics.texts("metric_names", limit=MAX_NAMES)
    for index, name in enumerate(names):
        if _GLOB.fullmatch(name) is None:
            raise InvalidField(f"{metrics.at('metric_names')}[{index}]", "is not a metric's name with `*` and `?`")
    has_interval = metrics.has("interval_seconds")
    return MetricsSpec(
        port=own,
        path=path,
        interval_secs=metrics.number("interval_seconds", low=1, high=3600) if has_interval else None,
        metric_names=names,
        native_histograms=metrics.boolean("native_histograms", default=False),
    )


def render_metrics(metrics: MetricsSpec) -> dict[str, Json]:
    """The payload shape of a Prometheus endpoint."""
    return {
        "port": metrics.port,
        "path": metrics.path,
        "interval_seconds": metrics.interval_secs,
        **({"metric_names": list(metrics.metric_names)} if metrics.metric_names else {}),
        **({"native_histograms": True} if metrics.native_histograms else {}),
    }


def endpoint_of(spec: ServiceSpec) -> MetricsSpec | None:
    """The endpoint of each replica: the spec's, or the one that the labels `prometheus.io/…` name; None without one.

    Labels that make no sense name no endpoint: they may be meant for another program.
    """
    metrics = spec.metrics if spec.metrics is not None else _from_labels(spec.labels)
    if metrics is None or (metrics.port is None and spec.port is None):
        return None
    return metrics


def _from_labels(labels: Mapping[str, str]) -> MetricsSpec | None:
    if labels.get(f"{_LABEL}scrape", "").strip().lower() != "true":
        return None
    port = labels.get(f"{_LABEL}port", "").strip()
    path = labels.get(f"{_LABEL}path", "").strip() or "/metrics"
    if (port and not (_PORT.fullmatch(port) and 1 <= int(port) <= 65535)) or _PATH.fullmatch(path) is None:
        return None
    return MetricsSpec(port=int(port) if port else None, path=path.partition("#")[0])
