"""How the log of a service's containers is read: the part of a spec that no container depends on."""

from __future__ import annotations

from syntra.utils.frozen import frozen


@frozen
class LogRate:
    """What a service may write a second, over time and at once (`burst_secs` seconds' worth); 0 is without limit."""

    lines_per_sec: float
    bytes_per_sec: float
    burst_secs: float


@frozen
class LogOptions:
    """`multiline` is `auto`, `off`, or a pattern that matches the first line of each entry."""

    multiline: str = "auto"
    parse: str = "auto"
    rate_limit: LogRate | None = None
    """None: as the agent's configuration says."""
