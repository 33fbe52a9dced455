"""The settings of `[telemetry.prometheus]`. Pure."""

from __future__ import annotations

from dataclasses import field

from syntra.agent.config.schema import Kind, key
from syntra.utils.frozen import frozen


@frozen
class PrometheusSettings:
    """Scraping of Prometheus endpoints: defaults of a target, and limits that end a scrape."""

    services: str = field(
        default="on",
        metadata=key(Kind.CHOICE, "whether services with `metrics` or the labels are scraped", choices=("on", "off")),
    )
    interval_secs: float = field(
        default=15.0, metadata=key(Kind.NUMBER, "time between two scrapes of a target", minimum=1, maximum=3600)
    )
    timeout_secs: float = field(
        default=10.0, metadata=key(Kind.NUMBER, "longest wait for a target's page", minimum=0.1, maximum=300)
    )
    max_targets: int = field(
        default=200, metadata=key(Kind.INTEGER, "targets of this agent; more are not scraped", minimum=1, maximum=10000)
    )
    max_body_mb: int = field(
        default=16, metadata=key(Kind.INTEGER, "largest page, decompressed, in MB", minimum=1, maximum=256)
    )
    max_samples: int = field(
        default=20_000,
        metadata=key(Kind.INTEGER, "samples of one page, after the filter on names", minimum=1, maximum=1_000_000),
    )
    max_labels: int = field(default=64, metadata=key(Kind.INTEGER, "labels of one sample", minimum=1, maximum=1000))
    max_label_bytes: int = field(
        default=4096,
        metadata=key(Kind.INTEGER, "longest name and value of a label", minimum=1, maximum=1_000_000),
    )
