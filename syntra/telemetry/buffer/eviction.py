"""Which signal loses its oldest entries when there is no room. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.telemetry.buffer.turns import PRIORITY
from syntra.telemetry.signals import Signal

ORDER = tuple(reversed(PRIORITY))
"""Profiles go first, then traces, logs, metrics, errors."""


def victim(segments: Mapping[Signal, int]) -> Signal | None:
    """The signal that loses a segment, by the number of segments that each has; None when there are none.

    The last segment of a signal stays as long as another signal has more than one. So a flood of logs does not leave
    the newest traces without any room.
    """
    for least in (2, 1):
        for signal in ORDER:
            if segments.get(signal, 0) >= least:
                return signal
    return None
