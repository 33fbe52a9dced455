"""One line of a metrics page: the text format 0.0.4 and OpenMetrics 1.0. Pure.

The grammar is the one that Prometheus itself reads (`model/textparse`), with quoted UTF-8 names. It is stricter than
the text format's description in one place: a line break inside a label's value must be written as `\\n`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen


class BadExposition(AgentError):
    """A page that is not in its format, or above a limit."""

    code = "BAD_EXPOSITION"


Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name; a label with an empty value is no label."""


class Series:
    """The part of a sample that stays from scrape to scrape. Compared by its parts."""

    __slots__ = ("key", "labels", "name")

    def __init__(self, name: str, labels: Labels) -> None:
        self.name = name
        self.labels = labels
        self.key = (name, labels)


@frozen
class Exemplar:
    """A trace behind a sample; `time_ns` None means the sample's own time."""

    labels: Labels
    value: float
    time_ns: int | None


@frozen
class Line:
    """A sample as it is written: the text of its series, its value, and where the value stands."""

    series: bytes
    value: bytes
    is_plain: bool
    """Series, one space, value, and nothing more: it can be cut without a parser."""
    time_ns: int | None = None
    exemplar: Exemplar | None = None


# All repetitions are possessive: a line that matches nothing is refused in time linear in its length.
_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_QUOTED = rb'"(?:[^"\\]++|\\.)*+"'
_LABELS = rb'\{(?:[^"{}]++|' + _QUOTED + rb")*+\}"
_NUMBER = rb"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"

_TEXT_LINE = re.compile(
    rb"[ \t]*+((?:" + _NAME + rb"(?=[ \t{]))?[ \t]*+(?:" + _LABELS + rb")?)[ \t]*+([^ \t{]++)"
    rb"(?:[ \t]++(-?[0-9]++))?[ \t]*+",
    re.DOTALL,
)
_OPEN_LINE = re.compile(
    rb"((?:" + _NAME + rb"(?=[ {]))?(?:" + _LABELS + rb")?) ([^ ]++)(?: (" + _NUMBER + rb"))?"
    rb"(?: # (" + _LABELS + rb") ([^ ]++)(?: (" + _NUMBER + rb"))?)?",
    re.DOTALL,
)
_SERIES = re.compile(rb"(" + _NAME + rb")?[ \t]*+(?:\{(.*)\})?", re.DOTALL)
_LABEL = re.compile(
    rb"[ \t]*+(?:([a-zA-Z_][a-zA-Z0-9_]*+|" + _QUOTED + rb")[ \t]*+=[ \t]*+(" + _QUOTED + rb")|(" + _QUOTED + rb"))"
    rb"[ \t]*+(?:,|$)",
    re.DOTALL,
)
_VALUE = re.compile(_NUMBER + rb"|[+-]?inf(?:inity)?|nan", re.IGNORECASE)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b'"': b'"', b"\\": b"\\"}
_SHOWN = 80

_MAX_MILLISECONDS = 2**63 // 10**6


def read_text(line: bytes) -> Line:
    """A sample of the text format 0.0.4. Raises BadExposition."""
    found = _TEXT_LINE.fullmatch(line)
    if found is None or not found[1]:
        raise _wrong(line)
    series, value, time = found[1].rstrip(b" \t"), found[2], found[3]
    time_ns = None
    if time is not None:
        milliseconds = int(time)
        if not 0 < milliseconds < _MAX_MILLISECONDS:
            raise BadExposition(f"cannot read the time of {_shown(series)}: it is out of range")
        time_ns = milliseconds * 10**6
    return Line(series=series, value=value, is_plain=time is None and line == series + b" " + value, time_ns=time_ns)


def read_open(line: bytes) -> Line:
    """A sample of OpenMetrics. Raises BadExposition."""
    found = _OPEN_LINE.fullmatch(line)
    if found is None or not found[1]:
        raise _wrong(line)
    series, value, time, exemplar, exemplar_value, exemplar_time = found.groups()
    made = None
    if exemplar is not None:
        made = Exemplar(
            labels=read_series(exemplar).labels, value=number(exemplar_value), time_ns=_seconds(exemplar_time, series)
        )
    return Line(
        series=series,
        value=value,
        is_plain=time is None and exemplar is None,
        time_ns=_seconds(time, series),
        exemplar=made,
    )


def read_series(text: bytes) -> Series:
    """A name with labels, or labels alone (an exemplar's). Raises BadExposition."""
    found = _SERIES.fullmatch(text)
    if found is None:
        raise _wrong(text)
    name = found[1]
    labels: dict[str, str] = {}
    for label, value in _labels(found[2] or b"", text):
        if label is None:
            if name is not None:
                raise _wrong(text)
            name = value
            continue
        key = _decoded(label, text)
        if key in labels:
            raise BadExposition(f"cannot read {_shown(text)}: it has the label {key[:_SHOWN]} twice")
        labels[key] = _decoded(value, text)
    return Series(_decoded(name or b"", text), tuple(sorted((key, one) for key, one in labels.items() if one)))


def number(text: bytes) -> float:
    """A value as Go's ParseFloat reads it, without hexadecimal numbers. Raises BadExposition."""
    if _VALUE.fullmatch(text) is None:
        raise BadExposition(f"cannot read a value: {_shown(text)} is not a number")
    value = float(text)
    if math.isinf(value) and text.lstrip(b"+-")[:1].isdigit():
        raise BadExposition(f"cannot read a value: {_shown(text)} is out of range")
    return value


def unescaped(text: bytes, *, quotes: bool = True) -> bytes:
    """Text without its escapes; unknown escapes stay as they are."""
    if b"\\" not in text:
        return text
    known = _ESCAPED if quotes else {key: value for key, value in _ESCAPED.items() if key != b'"'}
    return _ESCAPE.sub(lambda found: known.get(found[1], found[0]), text)


def _labels(text: bytes, whole: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Name (None for a quoted metric name) and value of each label."""
    at = 0
    while at < len(text):
        found = _LABEL.match(text, at)
        if found is None:
            if not text[at:].strip(b" \t"):
                return
            raise _wrong(whole)
        name, value, metric = found.groups()
        if metric is not None:
            yield None, unescaped(metric[1:-1])
        else:
            yield unescaped(name[1:-1]) if name[:1] == b'"' else name, unescaped(value[1:-1])
        at = found.end()


def _decoded(text: bytes, whole: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise BadExposition(f"cannot read {_shown(whole)}: it is not valid UTF-8") from None


def _seconds(text: bytes | None, series: bytes) -> int | None:
    if text is None:
        return None
    seconds = number(text)
    if not 0 < seconds < 2**33:
        raise BadExposition(f"cannot read the time of {_shown(series)}: it is out of range")
    # Prometheus keeps milliseconds; a double has microseconds of the present.
    return round(seconds * 10**6) * 1000


def _wrong(line: bytes) -> BadExposition:
    return BadExposition(f"cannot read the line {_shown(line)}: it is not a sample")


def _shown(text: bytes) -> str:
    shown = text[:_SHOWN].decode(errors="replace")
    return repr(shown if len(text) <= _SHOWN else shown + "…")
