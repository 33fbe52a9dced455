"""The series that a scrape itself has, with the names that Prometheus gives them. Pure."""

from __future__ import annotations

from syntra.telemetry.collect.prometheus.exposition import Limits, read_page
from syntra.telemetry.collect.prometheus.layout import Layout
from syntra.telemetry.collect.prometheus.metrics import group

_PAGE = b"""# HELP up Whether the scrape was successful
# TYPE up gauge
up 0
# HELP scrape_duration_seconds Duration of the scrape
# TYPE scrape_duration_seconds gauge
scrape_duration_seconds 0
# HELP scrape_samples_scraped The number of samples on the page
# TYPE scrape_samples_scraped gauge
scrape_samples_scraped 0
# HELP scrape_samples_post_metric_relabeling The number of samples that passed the filter on names
# TYPE scrape_samples_post_metric_relabeling gauge
scrape_samples_post_metric_relabeling 0
"""
OWN_POINTS = 4


class OwnSeries:
    """`up` and the others of one target."""

    def __init__(self) -> None:
        self._page = group(read_page(_PAGE, is_open=False, limits=Limits()), lambda _: True)
        self._resource = b""
        self._layout: Layout | None = None

    def encode(self, resource: bytes, *, up: bool, secs: float, samples: int, kept: int, time_ns: int) -> bytes:
        """A metrics request with OWN_POINTS data points; `resource` is the target's encoded Resource."""
        if self._layout is None or self._resource != resource:
            self._resource, self._layout = resource, Layout(self._page, resource)
        return self._layout.fill([float(up), secs, float(samples), float(kept)], time_ns)
