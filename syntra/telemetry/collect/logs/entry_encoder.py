"""From the entries of one container's log to encoded log records. Pure.

Most entries are one line of plain text or of JSON: these have a way of their own, which makes no object for each line.
"""

from __future__ import annotations

from collections.abc import Sequence

from syntra.telemetry.collect.logs.json_record import JsonRecords
from syntra.telemetry.collect.logs.line_parser import (
    Parser,
    first_word,
    for_entries,
    is_perhaps_structured,
    level_of,
    parse_auto,
    parse_json,
    parse_nothing,
)
from syntra.telemetry.collect.logs.line_times import LineTimes
from syntra.telemetry.collect.logs.record_encoder import MAX_ITEMS, as_bytes, attribute, attributes, leveled, record
from syntra.telemetry.varint import varint
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import parse_ns

MAX_FAILURES = 256
_CUT = attribute("log.truncated", True)


class EntryEncoder:
    """Parses and encodes the entries of one container."""

    def __init__(self, parse: Parser) -> None:
        self._parse = parse
        self._parse_entry = for_entries(parse)
        self._json = JsonRecords().record if parse in {parse_auto, parse_json} else None
        self._is_plain = parse in {parse_auto, parse_nothing}
        self._reads_levels = parse is parse_auto
        self._times = LineTimes(_engine_time)
        self.time_ns = self._times.ns
        """Nanoseconds since 1970 of the engine's time."""
        self.failures: list[bytes] = []
        """The records with an exception, as they were returned; the caller empties it."""

    def lines(self, texts: Sequence[str], times: Sequence[str], extra: bytes) -> list[bytes]:
        """Encode entries of one line each. `extra` are encoded attributes."""
        if not texts:
            return []
        as_json, is_plain, reads_levels = self._json, self._is_plain, self._reads_levels
        out: list[bytes] = []
        level = b""
        for text, observed_ns in zip(texts, self._times.many(times), strict=True):
            if as_json is not None and text[:1] == "{":
                made = as_json(text, observed_ns, extra)
                out.append(self._other(text, observed_ns, extra) if made is None else made)
                continue
            if reads_levels:
                found = first_word(text)
                if found is None:
                    if is_perhaps_structured(text):
                        out.append(self._other(text, observed_ns, extra))
                        continue
                    level = b""
                else:
                    level = level_of(found[1], b"")
            elif not is_plain:
                out.append(self._other(text, observed_ns, extra))
                continue
            out.append(record(observed_ns, observed_ns, level, text.encode("utf-8", "replace"), extra))
        return out

    def entry(self, lines: Sequence[str], time: str, extra: bytes, *, is_cut: bool) -> bytes:
        """Encode one entry. With `is_cut` a part of it was left out."""
        if is_cut:
            extra += _CUT
        if len(lines) == 1:
            return self.lines(lines, (time,), extra)[0]
        text = "\n".join(lines).rstrip("\n")
        return self._other(text, self.time_ns(time), extra, parse=self._parse_entry)

    def _other(self, text: str, observed_ns: int, extra: bytes, *, parse: Parser | None = None) -> bytes:
        parsed = (parse or self._parse)(text, observed_ns)
        if parsed is None:
            return record(observed_ns, observed_ns, b"", as_bytes(text), extra)
        message, severity, level, time_ns, trace_id, span_id, given = parsed
        if given:
            encoded, dropped = attributes(given, MAX_ITEMS)
            extra += encoded
            if dropped:
                extra += b"\x38" + varint(dropped)
        if trace_id:
            extra += b"\x4a\x10" + trace_id
        if span_id:
            extra += b"\x52\x08" + span_id
        fields = leveled(severity, level) if severity else b""
        made = record(time_ns or observed_ns, observed_ns, fields, as_bytes(message), extra)
        if "exception.type" in given and len(self.failures) < MAX_FAILURES:
            self.failures.append(made)
        return made


def _engine_time(text: str) -> int:
    try:
        return parse_ns(text) or 0
    except AgentError:
        # A damaged file.
        return 0
