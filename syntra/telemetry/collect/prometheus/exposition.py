"""A whole metrics page: its samples in order, and what it says about their families. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from syntra.telemetry.collect.prometheus.lines import (
    BadExposition,
    Exemplar,
    Series,
    number,
    read_open,
    read_series,
    read_text,
    unescaped,
)
from syntra.utils.frozen import frozen

_TEXT_KINDS = frozenset({"counter", "gauge", "histogram", "summary", "untyped"})
_OPEN_KINDS = frozenset(
    {"counter", "gauge", "histogram", "summary", "unknown", "info", "stateset", "gaugehistogram"},
)
_METADATA = re.compile(
    rb'#[ \t]++(HELP|TYPE|UNIT)[ \t]++([a-zA-Z_:][a-zA-Z0-9_:]*+|"(?:[^"\\]++|\\.)*+")(?:[ \t]++(.*))?', re.DOTALL
)
_END = b"# EOF"
LINE_BYTES = 64 * 1024
"""Of a line beside its labels."""
LINES_PER_SAMPLE = 5
"""With its comments, and with what a filter on names leaves out. It bounds the memory for reading a page."""


@frozen
class Limits:
    """What a page may have; a page above one of these is refused as a whole."""

    samples: int = 50_000
    """After the filter on metric names."""
    labels: int = 64
    """Of one sample, without its name."""
    label_bytes: int = 4096
    """Of a name or a value."""


class Family:
    """What a page says about the samples of one name. `kind` is a type of OpenMetrics."""

    __slots__ = ("help", "kind", "unit")

    def __init__(self) -> None:
        self.kind = "unknown"
        self.help = ""
        self.unit = ""


class Sample:
    """One sample; `row` is the number of its line in the page."""

    __slots__ = ("exemplar", "is_plain", "row", "series", "time_ns", "value")

    def __init__(
        self, series: Series, value: float, row: int, is_plain: bool, time_ns: int | None, exemplar: Exemplar | None
    ) -> None:
        self.series = series
        self.value = value
        self.row = row
        self.is_plain = is_plain
        self.time_ns = time_ns
        self.exemplar = exemplar


@frozen
class Exposition:
    """A page, read. `series` has the series by their text, for the next page of the same target."""

    samples: list[Sample]
    families: Mapping[str, Family]
    series: Mapping[bytes, Series]


def read_page(page: bytes, *, is_open: bool, limits: Limits, known: Mapping[bytes, Series] | None = None) -> Exposition:
    """Read a page; `is_open` if it is OpenMetrics. `known` is `series` of an earlier page. Raises BadExposition."""
    samples: list[Sample] = []
    families: dict[str, Family] = {}
    series: dict[bytes, Series] = {}
    before = known or {}
    read = read_open if is_open else read_text
    lines, most = page.count(b"\n"), LINES_PER_SAMPLE * limits.samples
    if lines > most:
        raise BadExposition(f"cannot take the page: it has {lines} lines, more than {most}")
    rows = page.split(b"\n")
    longest, most = max(map(len, rows)), LINE_BYTES + 2 * limits.labels * limits.label_bytes
    if longest > most:
        raise BadExposition(f"cannot take the page: it has a line of {longest} bytes, more than {most}")
    if is_open:
        _check_end(rows)
    for row, line in enumerate(rows):
        if line[:1] == b"#" or not line or line.isspace():
            if line.lstrip(b" \t"):
                _read_metadata(line, families, is_open)
            elif is_open and row != len(rows) - 1:
                raise BadExposition("cannot read the page: OpenMetrics has no empty lines")
            continue
        if line[:1] in b" \t" and line.lstrip(b" \t")[:1] == b"#" and not is_open:
            _read_metadata(line.lstrip(b" \t"), families, is_open)
            continue
        found = read(line)
        of = series.get(found.series) or before.get(found.series)
        if of is None:
            of = read_series(found.series)
            check_series(of, len(found.series), limits)
        series[found.series] = of
        samples.append(Sample(of, number(found.value), row, found.is_plain, found.time_ns, found.exemplar))
    return Exposition(samples=samples, families=families, series=series)


def _check_end(rows: list[bytes]) -> None:
    ends = rows[:-1] if rows[-1] == b"" else rows
    if not ends or ends[-1] != _END or _END in ends[:-1]:
        raise BadExposition("cannot read the page: OpenMetrics ends with `# EOF`, and this page is cut or goes on")


def _read_metadata(line: bytes, families: dict[str, Family], is_open: bool) -> None:
    found = _METADATA.fullmatch(line)
    if found is None:
        if is_open and line != _END:
            raise BadExposition(f"cannot read the line {line[:80]!r}: OpenMetrics has no comments")
        return
    word, name, text = found[1], found[2], found[3] or b""
    if word == b"UNIT" and not is_open:
        return
    try:
        key = (unescaped(name[1:-1]) if name[:1] == b'"' else name).decode()
        family = families.setdefault(key, Family())
        if word == b"TYPE":
            family.kind = _kind(text.strip(b" \t").decode(), key, is_open)
        elif word == b"UNIT":
            family.unit = text.decode()
        else:
            family.help = unescaped(text, quotes=is_open).decode()
    except UnicodeDecodeError:
        raise BadExposition(f"cannot read the line {line[:80]!r}: it is not valid UTF-8") from None


def _kind(text: str, name: str, is_open: bool) -> str:
    if text not in (_OPEN_KINDS if is_open else _TEXT_KINDS):
        raise BadExposition(f"cannot read the type of {name[:80]}: {text[:40]!r} is not one of the format's")
    return "unknown" if text == "untyped" else text


def check_series(series: Series, length: int, limits: Limits) -> None:
    """Raise BadExposition if a series, written with this length, is above a limit."""
    name = series.name
    if not name:
        raise BadExposition("cannot read a sample: it has no name")
    if len(series.labels) > limits.labels:
        raise BadExposition(f"cannot take {name[:80]}: it has {len(series.labels)} labels, more than {limits.labels}")
    if length <= limits.label_bytes:
        return
    longest = max((len(text) for label in series.labels for text in label), default=0)
    if max(longest, len(name)) > limits.label_bytes:
        raise BadExposition(f"cannot take {name[:80]}: a name or a value is longer than {limits.label_bytes} bytes")
