"""The pages of one target, one after the other: what stays is read once. Pure.

A page is compared with the one before in few calls: what each line had in front of its last space is removed from it.
If only values differ, they are read and put into the layout that is there already. Any other difference means that the
page is read again from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from syntra.telemetry.collect.prometheus.exposition import Exposition, Limits, read_page
from syntra.telemetry.collect.prometheus.layout import Layout, picker
from syntra.telemetry.collect.prometheus.lines import BadExposition, Series
from syntra.telemetry.collect.prometheus.metrics import Page, group, parts
from syntra.telemetry.collect.prometheus.resources import with_target_info
from syntra.telemetry.collect.prometheus.stale import SeriesSet
from syntra.utils.frozen import frozen

PART_POINTS = 5000
"""About so many data points are one record: what is shipped is made of whole records."""
_OF_NUMBERS = b"0123456789.eE+-InfinityNaNINFTYaty"
"""Characters of values; `float` also reads underscores and surrounding spaces, which Prometheus does not."""


@frozen
class Scraped:
    """A page as OTLP: `data` has metrics requests with their numbers of data points, `points` of all together."""

    data: Sequence[tuple[bytes, int]]
    points: int
    samples: int
    """On the page."""
    kept: int
    """After the filter on names."""
    stale: tuple[bytes, int] = (b"", 0)
    """A metrics request that ends the series which are no longer on the page, and its points."""


class Pages:
    """Reads the pages of one target. `attributes` name its resource, `keeps` is its filter on names."""

    def __init__(self, attributes: Sequence[tuple[str, str]], keeps: Callable[[str], bool], limits: Limits) -> None:
        self._attributes = attributes
        self._keeps = keeps
        self._limits = limits
        self._known: Mapping[bytes, Series] = {}
        self._steady: _Steady | None = None
        self._series: SeriesSet | None = None
        self._resource = with_target_info(attributes, ())
        self.reads = 0
        """Pages that were read from beginning to end because more than values had changed."""

    @property
    def resource(self) -> bytes:
        """The encoded Resource of the last page."""
        return self._resource

    def read(self, page: bytes, *, is_open: bool, time_ns: int) -> Scraped:
        """Read a page that was fetched at `time_ns`; `is_open` if it is OpenMetrics. Raises BadExposition."""
        steady = self._steady
        if steady is not None and steady.is_open is is_open:
            values = steady.values(page)
            if values is not None:
                return steady.scraped(values, time_ns)
        return self._read_whole(page, is_open, time_ns)

    def end(self, time_ns: int) -> tuple[bytes, int]:
        """End all series: the target cannot be scraped. Returns a metrics request and its points, once."""
        series, self._series, self._steady = self._series, None, None
        self._known = {}
        return (b"", 0) if series is None else series.ended(None, self._resource, time_ns)

    def read_protobuf(self, page: bytes, *, time_ns: int) -> Scraped:
        """Read a page in protobuf, which is read whole each time. Raises BadExposition."""
        # Imported where it is used: few targets have native histograms.
        from syntra.telemetry.collect.prometheus.native import native_request
        from syntra.telemetry.collect.prometheus.protobuf_page import read_protobuf

        found = read_protobuf(page, self._limits, self._known)
        self.reads += 1
        kept = sum(self._keeps(one.name) for one in found.native)
        grouped = self._grouped(found.exposition, more=kept)
        resource = with_target_info(self._attributes, grouped.target)
        layouts = [Layout(part, resource) for part in parts(grouped, PART_POINTS)]
        native, points, series = native_request(found.native, self._keeps, resource, time_ns)
        stale = self._replaced(layouts, series, resource, time_ns)
        self._steady, self._known = None, found.exposition.series
        values = [sample.value for sample in found.exposition.samples]
        data = [(layout.fill(values, time_ns), layout.points) for layout in layouts]
        return Scraped(
            data=[*data, (native, points)] if points else data,
            points=sum(count for _, count in data) + points,
            samples=len(values) - found.created + len(found.native),
            kept=len(grouped.kept) - len(grouped.created) + kept,
            stale=stale,
        )

    def _read_whole(self, page: bytes, is_open: bool, time_ns: int) -> Scraped:
        self.reads += 1
        exposition = read_page(page, is_open=is_open, limits=self._limits, known=self._known)
        grouped = self._grouped(exposition)
        resource = with_target_info(self._attributes, grouped.target)
        layouts = [Layout(part, resource) for part in parts(grouped, PART_POINTS)]
        stale = self._replaced(layouts, SeriesSet(), resource, time_ns)
        steady = _Steady(page, is_open, exposition, grouped, layouts)
        self._steady = steady if steady.is_steady else None
        # They take half a kilobyte each, and help only where each page is read whole.
        self._known = {} if steady.is_steady else exposition.series
        whole = steady.scraped([sample.value for sample in exposition.samples], time_ns)
        return replace(whole, stale=stale)

    def _grouped(self, exposition: Exposition, more: int = 0) -> Page:
        grouped = group(exposition, self._keeps)
        if (kept := len(grouped.kept) + more) > self._limits.samples:
            raise BadExposition(f"cannot take the page: it has {kept} samples, more than {self._limits.samples}")
        return grouped

    def _replaced(
        self, layouts: Sequence[Layout], series: SeriesSet, resource: bytes, time_ns: int
    ) -> tuple[bytes, int]:
        """Remember the series of this page; returns the end of those of the page before that are not on it."""
        for layout in layouts:
            series.update(layout.series)
        before, old_resource = self._series, self._resource
        self._series, self._resource = series, resource
        if before is None:
            return b"", 0
        return before.ended(series if resource == old_resource else None, old_resource, time_ns)


class _Steady:
    """A page whose series are known."""

    def __init__(
        self, page: bytes, is_open: bool, exposition: Exposition, grouped: Page, layouts: list[Layout]
    ) -> None:
        samples = exposition.samples
        self.is_open = is_open
        self._layouts = layouts
        self._points = sum(layout.points for layout in layouts)
        self._samples = len(samples)
        self._kept = len(grouped.kept)
        points = (
            one for metrics in grouped.scopes.values() for metric in metrics.values() for one in metric.points.values()
        )
        self.is_steady = all(sample.is_plain for sample in samples) and all(one.is_steady for one in points)
        if not self.is_steady:
            return
        rows = page.split(b"\n")
        # A row up to its last space, which the next page's row must start with.
        self._heads = [row[: row.rfind(b" ") + 1] for row in rows]
        self._heads_size = sum(map(len, self._heads)) + len(rows) - 1
        ends = list(map(bytes.removeprefix, rows, self._heads))
        with_values = {sample.row for sample in samples} - {samples[index].row for index in grouped.fixed}
        self._values = picker([sample.row for sample in samples])
        # Comments, and the samples whose value is part of the layout.
        self._fixed = picker([row for row in range(len(rows)) if row not in with_values])
        self._fixed_ends = self._fixed(ends)

    def values(self, page: bytes) -> list[float] | None:
        """The values of a page in which nothing else has changed; None for any other page."""
        rows = page.split(b"\n")
        if len(rows) != len(self._heads):
            return None
        ends = list(map(bytes.removeprefix, rows, self._heads))
        # A row with another head stays whole, so that the ends are too long together.
        if self._heads_size + sum(map(len, ends)) != len(page) or self._fixed(ends) != self._fixed_ends:
            return None
        texts = self._values(ends)
        if b"".join(texts).translate(None, _OF_NUMBERS):
            return None
        try:
            return list(map(float, texts))
        except ValueError:
            return None

    def scraped(self, values: Sequence[float], time_ns: int) -> Scraped:
        """These values at this time."""
        data = [(layout.fill(values, time_ns), layout.points) for layout in self._layouts]
        return Scraped(data=data, points=self._points, samples=self._samples, kept=self._kept)
