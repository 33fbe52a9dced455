"""The settings of `[telemetry.logs]`; see `settings`. Pure."""

from __future__ import annotations

from dataclasses import field

from syntra.agent.config.schema import Kind, key
from syntra.utils.frozen import frozen


@frozen
class LogSettings:
    """Which containers' logs are read, and what each service may write."""

    containers: str = field(
        default="ours",
        metadata=key(
            Kind.CHOICE,
            "whose logs are read: the agent's containers, all of the engine, or none",
            choices=("ours", "all", "off"),
        ),
    )
    max_lines_per_sec: float = field(
        default=5000.0,
        metadata=key(
            Kind.NUMBER, "log lines a second of one service over time; 0 is without limit", maximum=10_000_000
        ),
    )
    max_kb_per_sec: float = field(
        default=5000.0,
        metadata=key(Kind.NUMBER, "the same in kilobytes; 0 is without limit", maximum=10_000_000),
    )
    burst_secs: float = field(
        default=10.0,
        metadata=key(Kind.NUMBER, "seconds' worth that a service may write at once", minimum=0.1, maximum=3600),
    )
