"""Parses one metric from Prometheus' text format. Pure.

A proxy with many routes returns a hundred thousand lines, most of them of other metrics. Only the lines of the
requested metric are parsed, and those strictly: a guessed number is worse than none. Source:
prometheus.io/docs/instrumenting/exposition_formats, "Text-based format".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from syntra.networking.errors import UnreadableMetrics

_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\\n]|\\[\\"n])*)"\s*(,|(?=\}))')
_CLOSING = re.compile(r"\s*\}")
_VALUE = re.compile(r"[ \t]*([+-]?(?:Inf|NaN|[0-9.]+(?:[eE][+-]?[0-9]+)?))(?:[ \t]+-?[0-9]+)?[ \t]*")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"\\": "\\", '"': '"', "n": "\n"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a metric."""

    labels: Mapping[str, str]
    value: float


def samples(text: str, metric: str) -> list[Sample]:
    """All samples of exactly this metric, in order; empty when there is none. Raises UnreadableMetrics."""
    if text and not text.endswith("\n"):
        raise UnreadableMetrics("cannot read the metrics: the last line does not end; the answer was cut off")
    found = []
    for line in text.split("\n"):
        begin = line.lstrip(" \t")
        if not begin.startswith(metric) or begin[len(metric) : len(metric) + 1] not in ("", "{", " ", "\t"):
            continue
        sample = _sample(begin[len(metric) :].lstrip(" \t"))
        if sample is None:
            raise UnreadableMetrics(f"cannot read the metrics: {line[:120]!r} is not a sample")
        found.append(sample)
    return found


def _sample(rest: str) -> Sample | None:
    """Parse the rest of a line after the metric's name: labels in braces, and a value."""
    labels: dict[str, str] = {}
    at = 0
    if rest.startswith("{"):
        at = 1
        while match := _LABEL.match(rest, at):
            name, value, _ = match.groups()
            if name in labels:
                return None
            labels[name] = _ESCAPE.sub(lambda escape: _ESCAPED[escape[1]], value)
            at = match.end()
        closing = _CLOSING.match(rest, at)
        if closing is None:
            return None
        at = closing.end()
    number = _VALUE.fullmatch(rest, at)
    if number is None:
        return None
    try:
        return Sample(labels=labels, value=float(number[1]))
    except ValueError:
        return None
