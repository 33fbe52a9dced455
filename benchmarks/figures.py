"""Medians, ratios, and the one line of JSON that a benchmark prints."""

from __future__ import annotations

import datetime
import json
import math
import os
import statistics
import sys
from collections.abc import Mapping, Sequence


def median(samples: Sequence[float]) -> float:
    """The median, to a tenth of a millisecond when the samples are seconds."""
    return round(statistics.median(samples), 4)


def compared(ours: Sequence[float], peer: Sequence[float], *, names: tuple[str, str]) -> dict[str, float]:
    """Both medians under `names` and their ratio."""
    return {names[0]: median(ours), names[1]: median(peer), "ratio": ratio(median(ours), median(peer))}


def ratio(ours: float, peer: float) -> float:
    """Ours per peer's, to three digits behind the point."""
    return round(ours / peer, 3)


def spread(samples: Sequence[float]) -> dict[str, float]:
    """p50, p95 (nearest rank) and the largest of durations in seconds, as milliseconds."""
    ordered = sorted(samples)
    ranks = {"p50_ms": 0.5, "p95_ms": 0.95, "max_ms": 1.0}
    return {name: round(1000 * ordered[max(0, math.ceil(rank * len(ordered)) - 1)], 1) for name, rank in ranks.items()}


def say(line: str) -> None:
    """Progress, for people: stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def result(name: str, figures: Mapping[str, object], *, load_before: float) -> None:
    """The benchmark's one line on stdout. The load averages tell how much else went on."""
    machine = {"processors": os.cpu_count(), "kernel": os.uname().release, "python": sys.version.split()[0]}
    load = [round(load_before, 2), round(os.getloadavg()[0], 2)]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    sys.stdout.write(json.dumps({"name": name, **figures, "load": load, "date": today, "machine": machine}) + "\n")
