"""Medians, ratios, and the JSON line that a benchmark prints."""

from __future__ import annotations

import datetime
import json
import math
import os
import statistics
import sys
from collections.abc import Mapping, Sequence


def median(samples: Sequence[float]) -> float:
    """The median, rounded to a tenth of a millisecond when the samples are seconds."""
    return round(statistics.median(samples), 4)


def compared(ours: Sequence[float], peer: Sequence[float], *, names: tuple[str, str]) -> dict[str, float]:
    """Both medians, as `names`, and their ratio."""
    return {names[0]: median(ours), names[1]: median(peer), "ratio": ratio(median(ours), median(peer))}


def ratio(ours: float, peer: float) -> float:
    """Ours divided by the peer's, rounded to three decimals."""
    return round(ours / peer, 3)


def spread(samples: Sequence[float]) -> dict[str, float]:
    """p50, p95 (nearest rank) and maximum of durations in seconds, in milliseconds."""
    ordered = sorted(samples)
    ranks = {"p50_ms": 0.5, "p95_ms": 0.95, "max_ms": 1.0}
    return {name: round(1000 * ordered[max(0, math.ceil(rank * len(ordered)) - 1)], 1) for name, rank in ranks.items()}


def say(line: str) -> None:
    """Print progress to stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def result(name: str, figures: Mapping[str, object], *, load_before: float) -> None:
    """Print the result as one line on stdout. The load averages show how busy the machine was."""
    machine = {"processors": os.cpu_count(), "kernel": os.uname().release, "python": sys.version.split()[0]}
    load = [round(load_before, 2), round(os.getloadavg()[0], 2)]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    sys.stdout.write(json.dumps({"name": name, **figures, "load": load, "date": today, "machine": machine}) + "\n")
