"""Delays between attempts: exponential growth with full jitter.

Pure: the randomness is an argument, and nothing sleeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from syntra.utils.errors import AgentError


class UnitRandom(Protocol):
    """Where the jitter comes from; `random.Random` fits."""

    def random(self) -> float:
        """A float in [0, 1)."""
        ...


def delays(*, first: float, maximum: float, rng: UnitRandom) -> Iterator[float]:
    """Endless delays in seconds: each uniform in [0, ceiling), the ceiling doubling from `first` up to `maximum`.

    Every delay is jittered, the first included: a fleet that lost its peer at one instant must not come back at one
    instant. Start a new iterator to reset, and only once the session has proved stable.
    Raises AgentError at the call unless 0 < first <= maximum and both are finite.
    """
    if not 0 < first <= maximum < float("inf"):
        raise AgentError(
            f"cannot compute backoff delays: first={first} and maximum={maximum} are not 0 < first <= maximum;"
            " correct the two settings"
        )
    return _jittered(first, maximum, rng)


def _jittered(first: float, maximum: float, rng: UnitRandom) -> Iterator[float]:
    ceiling = first
    while True:
        yield rng.random() * ceiling
        ceiling = min(ceiling * 2, maximum)
