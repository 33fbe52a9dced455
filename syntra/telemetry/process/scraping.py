"""The targets of scrapes: from the configuration, and from what the agent tells about its replicas."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from syntra import __version__
from syntra.telemetry.collect.prometheus.exposition import Limits
from syntra.telemetry.collect.prometheus.scraper import Sink, Surroundings
from syntra.telemetry.collect.prometheus.scrapers import Scrapers
from syntra.telemetry.collect.prometheus.target import Target, TlsFiles, scraped_attributes
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.shipping.headers import parse_headers
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

MIB = 1024 * 1024


@frozen
class ScrapeSettings:
    """`[telemetry.prometheus]`, and the targets of `[[telemetry.scrape]]`."""

    interval_secs: float
    timeout_secs: float
    max_targets: int
    max_body_bytes: int
    limits: Limits
    targets: tuple[Target, ...]


def parse_scraping(telemetry: Mapping[str, Any]) -> ScrapeSettings:
    """The settings from the `telemetry` of a `configure` message. Raises AgentError for a URL that cannot be used."""
    section = telemetry["prometheus"]
    interval, timeout = float(section["interval_secs"]), float(section["timeout_secs"])
    return ScrapeSettings(
        interval_secs=interval,
        timeout_secs=timeout,
        max_targets=section["max_targets"],
        max_body_bytes=section["max_body_mb"] * MIB,
        limits=Limits(
            samples=section["max_samples"], labels=section["max_labels"], label_bytes=section["max_label_bytes"]
        ),
        targets=tuple(_configured(json.loads(entry), interval, timeout) for entry in telemetry["scrape"]),
    )


def scrapers(settings: ScrapeSettings, sink: Sink) -> Scrapers:
    """The scrapers of one process."""
    around = Surroundings(
        sink=sink,
        limits=settings.limits,
        max_body_bytes=settings.max_body_bytes,
        agent=f"syntra-agent/{__version__}",
        clock=time.monotonic,
        now_ns=time.time_ns,
        parse_headers=partial(parse_headers, of="telemetry.scrape"),
    )
    return Scrapers(around, max_targets=settings.max_targets, fixed=settings.targets)


def replica_targets(settings: ScrapeSettings, told: Sequence[Mapping[str, Any]]) -> list[Target]:
    """The targets of a `scrape_targets` message. A replica whose address cannot be used is left out, with a warning."""
    found: list[Target] = []
    for fields in told:
        interval = float(fields["interval_secs"] or settings.interval_secs)
        own = tuple(Identity(**fields["identity"]).attributes().items())
        try:
            attributes = scraped_attributes(fields["url"], own)
        except AgentError as wrong:
            log.warning("a replica is not scraped", extra={"reason": str(wrong)})
            continue
        found.append(
            Target(
                url=fields["url"],
                attributes=attributes,
                interval_secs=interval,
                timeout_secs=min(settings.timeout_secs, interval),
                metric_names=tuple(fields["metric_names"]),
                wants_native=bool(fields["native_histograms"]),
                is_here=True,
            )
        )
    return found


def _configured(entry: Mapping[str, Any], interval: float, timeout: float) -> Target:
    own_interval = float(entry.get("interval_secs") or interval)
    attributes = scraped_attributes(entry["url"], (), entry.get("job", ""))
    return Target(
        url=entry["url"],
        attributes=attributes,
        interval_secs=own_interval,
        timeout_secs=min(float(entry.get("timeout_secs") or timeout), own_interval),
        metric_names=tuple(entry.get("metric_names", ())),
        wants_native=bool(entry.get("native_histograms")),
        headers_file=entry.get("headers_file", ""),
        tls=TlsFiles(**{name: entry.get(name, "") for name in ("ca_path", "cert_path", "key_path")}),
        is_here=dict(attributes)["server.address"] in ("localhost", "127.0.0.1", "::1"),
    )
