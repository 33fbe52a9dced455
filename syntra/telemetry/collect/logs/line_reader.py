"""From the lines of one container's log to encoded log records: joins parts and entries, parses, and encodes. Pure.

A line is what the driver `json-file` writes: its text with the end of line, the stream, and the time in RFC 3339. The
engine cuts longer lines into parts of 16 KiB, of which only the last has the end of line; the parts of stdout and
stderr may alternate. A shorter part without an end is the last thing that a program printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syntra.telemetry.collect.logs.entry_encoder import EntryEncoder
from syntra.telemetry.collect.logs.line_parser import Parser
from syntra.telemetry.collect.logs.multiline import Joiner
from syntra.telemetry.collect.logs.record_encoder import as_bytes, attribute, attributes, log_record

MAX_LINE_CHARS = 1024 * 1024
"""A longer line or entry is cut, and says so in `log.truncated`."""
MAX_ENTRY_LINES = 1000
PART_BYTES = 16 * 1024
"""The size of a part that is not the last one (moby, daemon/logger/copier.go)."""

STREAMS = ("stdout", "stderr")
CONTINUED = -1
"""The entry that is not complete began before these lines."""

_END = {"\n"}

Line = tuple[str, str, str]
"""Text, stream and time."""


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
        self._encoder = EntryEncoder(parse)
        self._streams = {name: _Stream(name, joiner) for name, joiner in zip(STREAMS, joiners, strict=True)}
        self.time_ns = self._encoder.time_ns
        """Nanoseconds since 1970 of the engine's time; 0 if it is damaged."""
        self.failures = self._encoder.failures
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

    def feed(self, lines: Sequence[Line]) -> list[bytes]:
        """Read lines, oldest first."""
        for each in self._streams.values():
            each.begun = CONTINUED
        if not lines:
            return []
        columns: Any = zip(*lines, strict=True)
        texts, streams, times = columns
        each = self._streams[streams[0]]
        if each.parts or streams.count(streams[0]) < len(lines):
            return self._one_by_one(lines)
        if {text[-1:] for text in texts} != _END or "\r" in "".join(texts):
            return self._one_by_one(lines)
        alone = [text[:-1] for text in texts]
        if not each.joiner.are_apart(alone):
            return self._one_by_one(lines)
        if not each.lines:
            out = []
        elif each.joiner.continues(alone[0]):
            return self._one_by_one(lines, first_continues=True)
        else:
            out = [self._entry(each)]
        last = alone.pop()
        out += self._encoder.lines(alone, times[:-1], each.iostream)
        _begin(each, last, times[-1], len(alone))
        return out

    def _one_by_one(self, lines: Sequence[Line], *, first_continues: bool = False) -> list[bytes]:
        """As `feed`, for lines of which some may be parts or belong to others.

        With `first_continues` the joiner was asked about the first line, and said that it belongs to the entry.
        """
        out: list[bytes] = []
        for index, (text, stream, time) in enumerate(lines):
            each = self._streams[stream]
            if text[-1:] == "\n":
                text = text[:-2] if text[-2:] == "\r\n" else text[:-1]
            elif len(text) >= PART_BYTES or len(as_bytes(text)) >= PART_BYTES:
                self._part(each, text, time, index, out)
                continue
            if each.parts:
                out.append(self._joined(each, text))
                continue
            if each.lines:
                if (first_continues and not index) or each.joiner.continues(text):
                    _extend(each, text)
                    continue
                out.append(self._entry(each))
            _begin(each, text, time, index)
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
        lines, is_cut = each.lines, each.cut
        each.lines, each.cut = [], False
        return self._encoder.entry(lines, each.time, each.iostream, is_cut=is_cut)


def _begin(each: _Stream, text: str, time: str, index: int) -> None:
    each.lines.append(text)
    each.chars = len(text)
    each.time = time
    each.begun = index
    each.joiner.begin(text)


def _extend(each: _Stream, text: str) -> None:
    if len(each.lines) >= MAX_ENTRY_LINES or each.chars + len(text) > MAX_LINE_CHARS:
        each.cut = True
        return
    each.lines.append(text)
    each.chars += len(text) + 1
