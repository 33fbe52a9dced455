"""Reads a line that a program printed: JSON, logfmt, klog, or plain text with a level word at its start. Pure.

What is not recognised stays as it is. A parser never fails, and its time is bounded by the length of the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from syntra.telemetry.collect.logs.fields import Parsed, parse_fields
from syntra.telemetry.collect.logs.record_encoder import leveled
from syntra.telemetry.collect.logs.severity import ERROR, FATAL, INFO, SEVERITIES, WARN
from syntra.telemetry.collect.logs.stack_heads import exception_in

MAX_PARSED_CHARS = 64 * 1024
"""A longer line of logfmt is text; JSON has no such bound."""

Parser = Callable[[str, int], Parsed | None]
"""From the line and the engine's time of it; None for a line that is none of its kind."""

_KLOG = re.compile(
    r"([IWEF])(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) +(\d+) ([^\s:]{1,200}:\d{1,9})\] ?(.*)", re.DOTALL
)
_KLOG_LEVELS = {"I": INFO, "W": WARN, "E": ERROR, "F": FATAL}
_LOGFMT_START = re.compile(r"[A-Za-z_@][\w.@/-]{0,63}=")
_LOGFMT = re.compile(r'\s*([A-Za-z_@][\w.@/-]{0,127})=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?=\s|$)')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_WORDS = (
    *("trace", "debug", "info", "notice", "warn", "warning", "error", "critical", "fatal", "severe", "panic"),
    *("emerg", "alert", "err", "crit", "dbg", "inf", "wrn", "ftl", "dbug", "fail"),
)
_LEVELS = {form: leveled(SEVERITIES[form], form) for word in _WORDS for form in (word, word.upper(), word.capitalize())}
_BEFORE = r"[\d\s:.,/+\-\[\]()|]{0,48}+"
first_word = re.compile(
    # A time, a number or brackets may stand before it. Times have a T and a Z.
    rf"{_BEFORE}(?:[TZ](?![A-Za-z]){_BEFORE}){{0,2}}+<?([A-Za-z]{{3,8}}+)"
    r"(?=[\s:\])>|,]|[/-](?![\w.@/-]{0,63}=)|$)",
    re.ASCII,
).match
"""Matches the first word of a line, if it stands alone. Such a line is neither logfmt nor klog."""
level_of = _LEVELS.get
"""The level that a word is, as fields of a record."""


def parse_json(line: str, _: int) -> Parsed | None:
    """A line that is one JSON object."""
    if line[:1] not in {"{", " "} or not (line := line.strip()).startswith("{"):
        return None
    try:
        fields = orjson.loads(line)
    except ValueError:
        return None
    return parse_fields(fields)


def parse_logfmt(line: str, _: int) -> Parsed | None:
    """Pairs `key=value`, and nothing else in the line."""
    if _LOGFMT_START.match(line) is None or len(line) > MAX_PARSED_CHARS:
        return None
    fields: dict[str, Any] = {}
    at, end = 0, len(line.rstrip())
    while at < end:
        found = _LOGFMT.match(line, at)
        if found is None:
            return None
        key, quoted, bare = found.groups()
        fields[key] = bare if quoted is None else _ESCAPE.sub(_unescaped, quoted)
        at = found.end()
    return parse_fields(fields) if len(fields) > 1 else None


def parse_klog(line: str, observed_ns: int) -> Parsed | None:
    """Kubernetes' own form: `E0102 15:04:05.678901    1 file.go:42] message`. The year is that of the engine's time."""
    found = _KLOG.fullmatch(line)
    if found is None:
        return None
    level, month, day, hour, minute, second, micros, thread, place, message = found.groups()
    year = datetime.fromtimestamp(observed_ns / 1e9, UTC).year
    try:
        moment = datetime(year, int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    time_ns = int(moment.timestamp()) * 1_000_000_000 + int(micros) * 1000
    if abs(time_ns - observed_ns) > _DAY_NS:
        # The zone of the program is not that of the engine, or the line is from another year.
        time_ns = 0
    file, _, number = place.rpartition(":")
    attributes = {"code.file.path": file, "code.line.number": int(number), "thread.id": int(thread[:15])}
    return Parsed(message=message, severity=_KLOG_LEVELS[level], level=level, time_ns=time_ns, attributes=attributes)


def parse_plain(line: str, _: int) -> Parsed | None:
    """Text with a level at its start. The message is all of it."""
    found = first_word(line)
    if found is None or (level := found[1]) not in _LEVELS:
        return None
    return Parsed(line, SEVERITIES[level], level)


def is_perhaps_structured(line: str) -> bool:
    """Whether a line without a `first_word` may be logfmt or klog."""
    return ("=" in line[:64] and _LOGFMT_START.match(line) is not None) or (
        line[1:2].isdigit() and line[:1] in _KLOG_LEVELS
    )


def parse_auto(line: str, observed_ns: int) -> Parsed | None:
    """The first of all that knows the line."""
    first = line[:1]
    if first == "{" and (parsed := parse_json(line, observed_ns)) is not None:
        return parsed
    if first in _KLOG_LEVELS and (parsed := parse_klog(line, observed_ns)) is not None:
        return parsed
    if "=" in line[:64] and (parsed := parse_logfmt(line, observed_ns)) is not None:
        return parsed
    return parse_plain(line, observed_ns)


def for_entries(parse: Parser) -> Parser:
    """The parser for entries of several lines: it gets the first line, and the rest goes behind the message."""

    def parsed_entry(entry: str, observed_ns: int) -> Parsed | None:
        line, _, rest = entry.partition("\n")
        if line[:1] in {"{", "["}:
            # Perhaps JSON over several lines.
            whole = parse(entry, observed_ns)
            if whole is not None and whole.message != entry:
                return whole
        parsed = parse(line, observed_ns)
        exception = exception_in(entry)
        if parsed is not None:
            attributes = {**parsed.attributes, **exception} if exception else parsed.attributes
            return parsed._replace(message=f"{parsed.message}\n{rest}", attributes=attributes)
        return Parsed(entry, ERROR, attributes=exception) if exception else None

    return parse if parse is parse_nothing else parsed_entry


def parse_nothing(_line: str, _observed_ns: int) -> Parsed | None:
    """Every line stays as it is."""
    return None


_DAY_NS = 86_400_000_000_000
PARSERS: dict[str, Parser] = {
    "auto": parse_auto,
    "json": parse_json,
    "logfmt": parse_logfmt,
    "klog": parse_klog,
    "off": parse_nothing,
}


def _unescaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[1], found[1])
