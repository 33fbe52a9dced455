"""When the agent checks for releases, and when it may install one by itself. Pure."""

from __future__ import annotations

JITTER = 0.1
"""A tenth more or less, so that a fleet does not ask at the same moment."""
FIRST_SHARE = 1 / 24
"""The first check comes within this share of the interval: a quarter of an hour of six hours."""


def secs_to_next_check(interval_secs: float, random: float, *, is_first: bool) -> float:
    """`random` is in [0, 1)."""
    if is_first:
        return interval_secs * FIRST_SHARE * random
    return interval_secs * (1 - JITTER + 2 * JITTER * random)


def is_open(window: str, hour: int, minute: int) -> bool:
    """Whether a local time is in a window such as `22:00-04:00`; an empty window is always open."""
    if not window:
        return True
    begin, end = (_minutes(part) for part in window.split("-"))
    now = hour * 60 + minute
    return begin <= now < end if begin < end else now >= begin or now < end


def _minutes(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)
