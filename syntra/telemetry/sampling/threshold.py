"""Consistent probability sampling: thresholds, randomness, adjusted counts, and where tracestate has them.

An item with the randomness R is kept where R >= T. R and T have 56 bits; R comes from the trace id, so every stage that
uses the same T keeps the same traces, and a stage with a higher T keeps a subset. The sources are the OpenTelemetry
specification's "TraceState: Probability Sampling" and W3C Trace Context, section 3.3 (`tracestate`). Pure.
"""

from __future__ import annotations

import math
import re

from syntra.utils.frozen import frozen

RANDOMNESS = 1 << 56
"""One more than the largest randomness, and the threshold that would keep nothing."""

_PRECISION = 4
"""Hexadecimal digits of a threshold beyond its leading `f`s, as the SDKs write them: an error below 0.01 %."""

_THRESHOLD = re.compile(r"[0-9a-f]{1,14}", re.ASCII)
_RANDOM = re.compile(r"[0-9a-f]{14}", re.ASCII)
_VALUE_LENGTH = 256
_MEMBERS = 32


def threshold_of(probability: float) -> int:
    """The threshold that keeps this share of all items, rounded to as many digits as `encode` writes."""
    if probability >= 1:
        return 0
    if probability <= 1 / RANDOMNESS:
        return RANDOMNESS - 1
    leading = math.floor(-math.log(probability, 16))
    unit = 1 << max(0, 56 - 4 * (leading + _PRECISION))
    exact = RANDOMNESS - round(probability * RANDOMNESS)
    return min((exact + unit // 2) // unit * unit, RANDOMNESS - unit)


def probability_of(threshold: int) -> float:
    """The share of items that this threshold keeps."""
    return (RANDOMNESS - threshold) / RANDOMNESS


def adjusted_count(threshold: int) -> float:
    """How many items one kept item represents."""
    return RANDOMNESS / (RANDOMNESS - threshold)


def encode(threshold: int) -> str:
    """The value of `th`: the digits without trailing zeros. Leading zeros count: `0a` is not `a`."""
    return format(threshold, "014x").rstrip("0") or "0"


def parse_threshold(text: str) -> int | None:
    """The threshold of a `th`, or None if it is not one."""
    return int(text.ljust(14, "0"), 16) if _THRESHOLD.fullmatch(text) else None


def parse_randomness(text: str) -> int | None:
    """The randomness of an `rv`, or None if it is not one."""
    return int(text, 16) if _RANDOM.fullmatch(text) else None


def randomness_of(trace_id: bytes) -> int:
    """The last seven bytes of a trace id, which W3C Trace Context level 2 requires to be random."""
    return int.from_bytes(trace_id[-7:], "big")


@frozen
class Sampled:
    """What a tracestate says of earlier sampling. None where it says nothing, or nothing valid."""

    threshold: int | None
    randomness: int | None


def read(tracestate: str) -> Sampled:
    """Read `th` and `rv` of the member `ot`."""
    found: dict[str, str] = {}
    for member in tracestate.split(","):
        key, _, value = member.strip(" \t").partition("=")
        if key == "ot":
            for pair in value.split(";"):
                name, _, given = pair.partition(":")
                found.setdefault(name, given)
            break
    return Sampled(threshold=parse_threshold(found.get("th", "")), randomness=parse_randomness(found.get("rv", "")))


def write(tracestate: str, threshold: int | None) -> str:
    """Return the tracestate with this `th`, or without one for None.

    Other members and other keys of `ot` stay. A changed member moves to the front (W3C 3.5). If the limits of 32
    members or of 256 characters in `ot` would be exceeded, the last members and the last keys other than `rv` go.
    """
    pairs: list[str] = []
    others: list[str] = []
    seen = False
    for member in filter(None, (part.strip(" \t") for part in tracestate.split(","))):
        key, _, value = member.partition("=")
        if key != "ot":
            others.append(member)
        elif not seen:
            seen = True
            pairs = [pair for pair in value.split(";") if pair and not pair.startswith("th:")]
    if threshold is not None:
        pairs.insert(0, f"th:{encode(threshold)}")
    while len(";".join(pairs)) > _VALUE_LENGTH:
        removable = [index for index, pair in enumerate(pairs) if index and not pair.startswith("rv:")]
        if not removable:
            break
        del pairs[removable[-1]]
    ours = [f"ot={';'.join(pairs)}"] if pairs else []
    return ",".join(ours + others[: _MEMBERS - len(ours)])
