"""The samples of a page as metrics of OTLP, not yet encoded. Pure.

The rules are those of "Prometheus and OpenMetrics Compatibility" in the OpenTelemetry specification ("Prometheus Metric
points to OTLP"): names stay as they are, `target_info` becomes the resource, labels `otel_scope_…` become the scope,
and histograms and summaries are complete or left out. Values are named by the number of their sample, so that the next
page with the same series needs none of this again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from syntra.telemetry.collect.prometheus.exposition import Exposition, Family, Sample
from syntra.telemetry.collect.prometheus.lines import Exemplar, Labels
from syntra.utils.frozen import frozen

_SUFFIXES: tuple[tuple[str, frozenset[str]], ...] = (
    ("_bucket", frozenset({"histogram", "gaugehistogram"})),
    ("_sum", frozenset({"histogram", "summary"})),
    ("_count", frozenset({"histogram", "summary"})),
    ("_gsum", frozenset({"gaugehistogram"})),
    ("_gcount", frozenset({"gaugehistogram"})),
    ("_created", frozenset({"counter", "histogram", "summary"})),
    ("_total", frozenset({"counter"})),
    ("_info", frozenset({"info"})),
)
_NO_FAMILY = Family()
TARGET_INFO = "target_info"
_SCOPE = "otel_scope_"

Attributes = Labels


class Point:
    """A data point. Numbers name samples; None where the page has no such sample."""

    __slots__ = ("buckets", "count", "created", "exemplars", "quantiles", "sum", "time_ns", "value")

    def __init__(self) -> None:
        self.value: int | None = None
        self.count: int | None = None
        self.sum: int | None = None
        self.buckets: dict[float, int] = {}
        self.quantiles: dict[float, int] = {}
        self.created: float | None = None
        self.time_ns: int | None = None
        self.exemplars: list[Exemplar] = []

    @property
    def is_steady(self) -> bool:
        """Whether only values change: no exemplars, and no time of its own."""
        return self.time_ns is None and not self.exemplars


class Metric:
    """All points of one name and kind; the kind is a type of OpenMetrics."""

    __slots__ = ("family", "kind", "name", "points")

    def __init__(self, name: str, kind: str, family: Family) -> None:
        self.name = name
        self.kind = kind
        self.family = family
        self.points: dict[Attributes, Point] = {}


@frozen
class Scope:
    """An instrumentation scope."""

    name: str = ""
    version: str = ""
    schema_url: str = ""
    attributes: Attributes = ()


class Page:
    """The metrics of a page, by scope, name and kind."""

    def __init__(self) -> None:
        self.scopes: dict[Scope, dict[tuple[str, str], Metric]] = {}
        self.target: Attributes = ()
        """The labels of `target_info`, for the resource."""
        self.kept: list[int] = []
        """Numbers of the samples that passed the filter."""
        self.fixed: list[int] = []
        """Numbers of the samples whose value is part of the encoding, such as `_created`."""
        self.created: list[int] = []
        """Numbers of the samples that say when another one began."""


Resolved = tuple[str, str, str, Family]
"""Name of the metric, kind, role of the sample in it (a suffix, or empty for a value), and family."""


def resolve(name: str, families: Mapping[str, Family]) -> Resolved:
    """The metric that a sample with this name belongs to."""
    own = families.get(name)
    if own is not None:
        if own.kind == "summary":
            return name, own.kind, "quantile", own
        # A histogram has no sample of its own name.
        kind = "unknown" if own.kind in {"histogram", "gaugehistogram"} else own.kind
        return name, kind, "", own
    for suffix, kinds in _SUFFIXES:
        if name.endswith(suffix):
            base = name.removesuffix(suffix)
            family = families.get(base)
            if family is not None and family.kind in kinds:
                if suffix in {"_total", "_info"}:
                    return name, family.kind, "", family
                # The samples of a counter end in _total, and so does the metric. In protobuf the family does, too.
                whole = f"{base}_total" if family.kind == "counter" and not base.endswith("_total") else base
                return whole, family.kind, suffix, family
    return name, "unknown", "", _NO_FAMILY


def group(exposition: Exposition, keeps: Callable[[str], bool]) -> Page:
    """Group the samples. `keeps` decides by the name of a metric."""
    page = Page()
    names: dict[str, tuple[Resolved, bool]] = {}
    families = exposition.families
    last_scope: Scope | None = None
    metrics: dict[tuple[str, str], Metric] = {}
    for index, sample in enumerate(exposition.samples):
        name = sample.series.name
        known = names.get(name)
        if known is None:
            resolved = resolve(name, families)
            known = names[name] = resolved, keeps(resolved[0])
        (metric_name, kind, role, family), is_kept = known
        if name == TARGET_INFO and not role:
            page.target = page.target or sample.series.labels
            page.fixed.append(index)
            continue
        if not is_kept:
            continue
        page.kept.append(index)
        if kind == "gaugehistogram":
            continue
        scope, attributes = scope_of(sample.series.labels)
        edge = ""
        if role == "_bucket":
            attributes, edge = _without(attributes, "le")
        elif role == "quantile":
            attributes, edge = _without(attributes, "quantile")
            if not edge:
                kind, role = "unknown", ""
        if scope is not last_scope:
            # Hashing a scope takes a microsecond.
            last_scope, metrics = scope, page.scopes.setdefault(scope, {})
        metric = metrics.get((metric_name, kind))
        if metric is None:
            metric = metrics[metric_name, kind] = Metric(metric_name, kind, family)
        point = metric.points.get(attributes)
        if point is None:
            point = metric.points[attributes] = Point()
        if role == "_created":
            page.fixed.append(index)
            page.created.append(index)
        _put(point, role, edge, index, sample)
    _remove_incomplete(page)
    return page


def parts(page: Page, points: int) -> list[Page]:
    """The page in parts of about so many points; a metric is never cut."""
    made: list[Page] = []
    room = 0
    for scope, metrics in page.scopes.items():
        for key, metric in metrics.items():
            if room <= 0:
                made.append(Page())
                room = points
            made[-1].scopes.setdefault(scope, {})[key] = metric
            room -= len(metric.points)
    return made


def _put(point: Point, role: str, edge: str, index: int, sample: Sample) -> None:
    """The first sample of a place counts, as in Prometheus."""
    if sample.time_ns is not None and point.time_ns is None:
        point.time_ns = sample.time_ns
    if sample.exemplar is not None:
        point.exemplars.append(sample.exemplar)
    if role == "":
        point.value = index if point.value is None else point.value
    elif role == "_count":
        point.count = index if point.count is None else point.count
    elif role == "_sum":
        point.sum = index if point.sum is None else point.sum
    elif role == "_created":
        point.created = sample.value if point.created is None else point.created
    else:
        bound = _edge(edge)
        if bound is not None:
            (point.buckets if role == "_bucket" else point.quantiles).setdefault(bound, index)


def _edge(text: str) -> float | None:
    """The bound of a bucket or the number of a quantile; None where it has none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _remove_incomplete(page: Page) -> None:
    """Leave out histograms and summaries without a count, and counters of which only the start is there."""
    for scope in list(page.scopes):
        metrics = page.scopes[scope]
        for key, metric in list(metrics.items()):
            is_number = metric.kind not in {"histogram", "summary"}
            for attributes, point in list(metric.points.items()):
                if (point.value if is_number else point.count) is None:
                    del metric.points[attributes]
            if not metric.points:
                del metrics[key]
        if not metrics:
            del page.scopes[scope]


def _without(labels: Labels, name: str) -> tuple[Labels, str]:
    for at, (key, value) in enumerate(labels):
        if key == name:
            return labels[:at] + labels[at + 1 :], value
    return labels, ""


_DEFAULT_SCOPE = Scope()


def scope_of(labels: Labels) -> tuple[Scope, Attributes]:
    """The scope that labels name, and the other labels."""
    if not any(key.startswith(_SCOPE) for key, _ in labels):
        return _DEFAULT_SCOPE, labels
    given = {key.removeprefix(_SCOPE): value for key, value in labels if key.startswith(_SCOPE)}
    scope = Scope(
        name=given.pop("name", ""),
        version=given.pop("version", ""),
        schema_url=given.pop("schema_url", ""),
        attributes=tuple(sorted(given.items())),
    )
    return scope, tuple(label for label in labels if not label[0].startswith(_SCOPE))
