"""From the lines of one container's log to encoded log records: joins parts and entries, parses, and encodes. Pure.

A line is what the driver `json-file` writes: its text with the end of line, the stream, and the time in RFC 3339. The
engine cuts longer lines into parts of 16 KiB, of which only the last has the end of line; the parts of stdout and
stderr may alternate. A shorter part without an end is the last thing that a program printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from syntra.telemetry.collect.logs.line_parser import Parser, for_entries
from syntra.telemetry.collect.logs.multiline import Joiner
from syntra.telemetry.collect.logs.record_encoder import MAX_ITEMS, as_bytes, attribute, attributes, log_record
from syntra.utils.timestamps import parse_ns

MAX_LINE_CHARS = 1024 * 1024
"""A longer line or entry is cut, and says so in `log.truncated`."""
MAX_ENTRY_LINES = 1000
MAX_FAILURES = 256
PART_BYTES = 16 * 1024
"""The size of a part that is not the last one (moby, daemon/logger/copier.go)."""

STREAMS = ("stdout", "stderr")
CONTINUED = -1
"""The entry that is not complete began before these lines."""

Line = tuple[str, str, str]
"""Text, stream and time."""

_CUT = attribute("log.truncated", True)
_LEVELS_KEPT = 256


class _Stream:
    """What of one stream is not complete."""

    __slots__ = ("begun", "chars", "cut", "iostream", "joiner", "lines", "part_chars", "parts", "time")

    def __init__(self, name: str, joiner: Joiner) -> None:
        self.iostream = attribute("log.iostream", name)
        self.joiner = joiner
        self.parts: list[str] = []
        self.part_chars = 0
        self.lines: list[str] = []
        self.chars = 0
        self.time = ""
        """The engine's time of the entry's first line, or of its first part."""
        self.begun = CONTINUED
        """Index of the line with which what is not complete began."""
        self.cut = False


class LineReader:
    """One container's lines. `feed` returns the records that are complete, as `log_record` makes them."""

    def __init__(self, parse: Parser, joiners: Sequence[Joiner]) -> None:
        """`joiners` are one for each of STREAMS."""
        self._parse = parse
        self._parse_entry = for_entries(parse)
        self._streams = {name: _Stream(name, joiner) for name, joiner in zip(STREAMS, joiners, strict=True)}
        self._second = ("", 0)
        self._levels: dict[str, bytes] = {}
        self.failures: list[bytes] = []
        """The records with an exception, as `feed` returned them; the caller empties it."""

    @property
    def is_waiting(self) -> bool:
        """Whether an entry or a line is not complete."""
        return any(each.lines or each.parts for each in self._streams.values())

    def open_since(self, stream: str) -> int | None:
        """The index, in the lines of the last `feed`, with which the stream's incomplete entry begins.

        None when all is complete; CONTINUED when it began in lines before.
        """
        each = self._streams[stream]
        return each.begun if each.lines or each.parts else None

    def feed(self, lines: Iterable[Line]) -> list[bytes]:
        """Read lines, oldest first."""
        out: list[bytes] = []
        streams = self._streams
        for each in streams.values():
            each.begun = CONTINUED
        for index, (text, stream, time) in enumerate(lines):
            each = streams[stream]
            if text[-1:] == "\n":
                text = text[:-2] if text[-2:] == "\r\n" else text[:-1]
            elif len(text) >= PART_BYTES or len(as_bytes(text)) >= PART_BYTES:
                self._part(each, text, time, index, out)
                continue
            if each.parts:
                out.append(self._joined(each, text))
                continue
            if each.lines:
                if each.joiner.continues(text):
                    _extend(each, text)
                    continue
                out.append(self._entry(each))
            each.lines.append(text)
            each.chars = len(text)
            each.time = time
            each.begun = index
            each.joiner.begin(text)
        return out

    def flush(self) -> list[bytes]:
        """The entries that are not complete, as they are: nothing has followed them for a while."""
        return [self._entry(each) for each in self._streams.values() if each.lines]

    def end(self) -> list[bytes]:
        """All that is not complete: the container has ended."""
        cut_off = [self._joined(each, "") for each in self._streams.values() if each.parts]
        return cut_off + self.flush()

    def note(self, time_ns: int, text: str, given: Mapping[str, object]) -> bytes:
        """A record of the agent itself, in its place among the lines."""
        fields, _ = attributes(given)
        return log_record(time_ns, time_ns, as_bytes(text), severity=13, severity_text=b"WARN", attributes=fields)

    def time_ns(self, text: str) -> int:
        """Nanoseconds since 1970 of the engine's time."""
        second, base = self._second
        if text[:19] != second or text[-1:] != "Z":
            try:
                return self._new_second(text)
            except ValueError:
                return parse_ns(text) or 0
        return base + int(text[20:-1].ljust(9, "0")) if len(text) > 20 else base

    def _new_second(self, text: str) -> int:
        if text[-1:] != "Z":
            return parse_ns(text) or 0
        base = int(datetime.fromisoformat(text[:19] + "+00:00").timestamp()) * 1_000_000_000
        self._second = text[:19], base
        return base + int(text[20:-1].ljust(9, "0")) if len(text) > 20 else base

    def _part(self, each: _Stream, text: str, time: str, index: int, out: list[bytes]) -> None:
        if not each.parts:
            # A line in parts is too long for one of a stack trace: it is an entry of its own.
            if each.lines:
                out.append(self._entry(each))
            each.part_chars = 0
            each.time = time
            each.begun = index
        room = max(0, MAX_LINE_CHARS - each.part_chars)
        each.cut = each.cut or len(text) > room
        each.parts.append(text[:room])
        each.part_chars += len(each.parts[-1])

    def _joined(self, each: _Stream, last: str) -> bytes:
        """The last part has come."""
        text = "".join([*each.parts, last])
        each.parts.clear()
        if len(text) > MAX_LINE_CHARS:
            text = text[:MAX_LINE_CHARS]
            each.cut = True
        each.lines.append(text)
        return self._entry(each)

    def _entry(self, each: _Stream) -> bytes:
        """Encode the stream's entry, which is complete."""
        lines = each.lines
        time = each.time
        second, base = self._second
        if time[:19] == second and time[-1] == "Z" and len(time) > 20:
            observed_ns = base + int(time[20:-1].ljust(9, "0"))
        else:
            observed_ns = self.time_ns(time)
        if len(lines) == 1:
            text = lines[0]
            parsed = self._parse(text, observed_ns)
        else:
            text = "\n".join(lines).rstrip("\n")
            parsed = self._parse_entry(text, observed_ns)
        lines.clear()
        extra = each.iostream
        if each.cut:
            extra += _CUT
            each.cut = False
        if parsed is None:
            return log_record(observed_ns, observed_ns, as_bytes(text), attributes=extra)
        message, severity, level, time_ns, trace_id, span_id, given = parsed
        dropped = 0
        if given:
            encoded, dropped = attributes(given, MAX_ITEMS)
            extra += encoded
        record = log_record(
            time_ns or observed_ns,
            observed_ns,
            as_bytes(message),
            severity=severity,
            severity_text=self._levels.get(level) or self._level(level),
            attributes=extra,
            dropped=dropped,
            trace_id=trace_id,
            span_id=span_id,
        )
        if "exception.type" in given and len(self.failures) < MAX_FAILURES:
            self.failures.append(record)
        return record

    def _level(self, level: str) -> bytes:
        found = as_bytes(level[:32])
        if len(self._levels) < _LEVELS_KEPT:
            self._levels[level] = found
        return found


def _extend(each: _Stream, text: str) -> None:
    if len(each.lines) >= MAX_ENTRY_LINES or each.chars + len(text) > MAX_LINE_CHARS:
        each.cut = True
        return
    each.lines.append(text)
    each.chars += len(text) + 1
