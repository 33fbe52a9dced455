"""Decodes the output of containers and commands without I/O: bytes to frames, frames to log records.

Without a terminal the engine multiplexes: each frame has an 8-byte header (stream type, three zero bytes, length in
big-endian) and a payload (Engine API, "Attach to a container"). With a terminal the bytes are raw. On API 1.41 the
response does not say which, so the caller decides by the terminal setting of the container or command.
"""

from __future__ import annotations

import re
import struct
from enum import Enum
from typing import Protocol

from syntra.runtime.docker.errors import DockerError, EngineProtocolError, StreamBroken
from syntra.runtime.docker.records import LogRecord, Stream
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_ns, parse_ns

HEADER_BYTES = 8
MAX_FRAME_BYTES = 4 * 1024 * 1024
"""Limit of one frame. The engine copies 16 or 32 KiB at a time; log drivers use up to 1 MiB."""
MAX_LINE_BYTES = 64 * 1024
"""Limit of one joined log line; the rest is dropped and the record is marked as truncated."""
PARTIAL_BYTES = 16 * 1024
"""The engine splits lines into pieces of exactly this many bytes, each with its own timestamp."""

_HEADER = struct.Struct(">B3sI")
_TIMESTAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)(?: |(?=\r?\n)|$)")
_MAX_TIMESTAMP_BYTES = 36
_TIMESTAMP_CHARS = len("2026-01-02T03:04:05.678901234Z")


class FrameType(Enum):
    STDIN = 0
    STDOUT = 1
    STDERR = 2
    SYSTEM_ERROR = 3
    """The engine's own error about the stream, not output of the container."""


@frozen
class Frame:
    type: FrameType
    payload: bytes


class Demultiplexer(Protocol):
    """Bytes to frames. `feed` never raises: it returns complete frames, and sets `error` for invalid data."""

    error: DockerError | None

    def feed(self, data: bytes) -> list[Frame]: ...

    def feed_eof(self) -> None: ...


class MultiplexedFrames:
    """The multiplexed form. A system-error frame ends the stream and becomes `error`."""

    def __init__(self) -> None:
        self.error: DockerError | None = None
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        if self.error is not None:
            return frames
        # Mostly nothing is left from before; then the frames are taken from `data` itself.
        is_fresh = not self._buffer
        if not is_fresh:
            self._buffer += data
        with memoryview(data if is_fresh else self._buffer) as view:
            end = self._take(view, frames)
            if is_fresh:
                self._buffer += view[end:]
        if not is_fresh:
            del self._buffer[:end]
        return frames

    def _take(self, view: memoryview, frames: list[Frame]) -> int:
        """Add the frames that are complete; returns where the rest begins."""
        start = 0
        while len(view) - start >= HEADER_BYTES:
            code, zeros, length = _HEADER.unpack_from(view, start)
            if code > FrameType.SYSTEM_ERROR.value or zeros != b"\0\0\0":
                self.error = EngineProtocolError("an output stream", "a frame header is malformed")
            elif length > MAX_FRAME_BYTES:
                self.error = EngineProtocolError("an output stream", f"a frame is longer than {MAX_FRAME_BYTES} bytes")
            if self.error is not None:
                break
            end = start + HEADER_BYTES + length
            if end > len(view):
                break
            payload = bytes(view[start + HEADER_BYTES : end])
            start = end
            if code == FrameType.SYSTEM_ERROR.value:
                text = payload.decode("utf-8", "replace").strip()
                self.error = StreamBroken("an output stream", f"the engine says {text[:512]!r}")
                break
            frames.append(Frame(type=FrameType(code), payload=payload))
        return start

    def feed_eof(self) -> None:
        """The stream has ended; inside a frame that is an error."""
        if self.error is None and self._buffer:
            self.error = StreamBroken("an output stream", "it ended inside a frame")


class RawFrames:
    """The terminal form: all bytes are output; the terminal has merged the two streams."""

    def __init__(self) -> None:
        self.error: DockerError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        return [Frame(type=FrameType.STDOUT, payload=data)] if data else []

    def feed_eof(self) -> None:
        """A raw stream may end anywhere."""


def demultiplexer(*, tty: bool) -> Demultiplexer:
    """The decoder for output with or without a terminal."""
    return RawFrames() if tty else MultiplexedFrames()


class LineJoiner:
    """Joins the frames of a log that was read with `timestamps=1` to records, one per line.

    Lines longer than 16 KiB arrive in pieces, each with a timestamp, and only the last ends in a newline. A record has
    the timestamp of its *first* piece: reading again from there gives the same line. With a terminal the pieces have no
    frames, so a timestamp inside a line is recognised only after a multiple of 16 KiB.
    """

    def __init__(self, *, tty: bool, line_bytes: int = MAX_LINE_BYTES) -> None:
        self._tty = tty
        self._line_bytes = line_bytes
        self._lines: dict[Stream, _Line] = {}

    @property
    def pending_since(self) -> str | None:
        """The earliest timestamp of an incomplete line; None when there is none."""
        stamps = [line.timestamp for line in self._lines.values() if line.timestamp]
        return min(stamps, default=None)

    def feed(self, frame: Frame) -> list[LogRecord]:
        """Process a frame; return the records that it completes."""
        stream = Stream.STDERR if frame.type is FrameType.STDERR else Stream.STDOUT
        return self._feed_raw(frame.payload) if self._tty else self._feed_framed(stream, frame.payload)

    def flush(self) -> list[LogRecord]:
        """The log has ended: return the last lines, which have no newline."""
        records = []
        for stream, line in list(self._lines.items()):
            if self._tty:
                line = _from_terminal(bytes(line.content), self._line_bytes, overflow=line.truncated)
            records.append(line.record(stream))
        self._lines.clear()
        return records

    def _feed_framed(self, stream: Stream, payload: bytes) -> list[LogRecord]:
        timestamp, content = _split_timestamp(payload)
        line = self._lines.pop(stream, None)
        if line is None:
            line = _Line(timestamp)
        ended = content.endswith(b"\n")
        line.append(content[:-1] if ended else content, self._line_bytes)
        if ended:
            return [line.record(stream)]
        self._lines[stream] = line
        return []

    def _feed_raw(self, payload: bytes) -> list[LogRecord]:
        records = []
        line = self._lines.pop(Stream.STDOUT, None) or _Line("")
        # Plus the timestamps inside a full line, which `_from_terminal` removes.
        most = self._line_bytes
        bound = most + (most // PARTIAL_BYTES + 2) * _MAX_TIMESTAMP_BYTES
        *ended, rest = payload.split(b"\n")
        for piece in ended:
            line.append(piece, bound)
            records.append(_from_terminal(bytes(line.content), most, overflow=line.truncated).record(Stream.STDOUT))
            line = _Line("")
        line.append(rest, bound)
        if line.content:
            line.timestamp = _split_timestamp(bytes(line.content[:_MAX_TIMESTAMP_BYTES]))[0]
            self._lines[Stream.STDOUT] = line
        return records


class _Line:
    """An incomplete line."""

    __slots__ = ("content", "timestamp", "truncated")

    def __init__(self, timestamp: str) -> None:
        self.timestamp = timestamp
        self.content = bytearray()
        self.truncated = False

    def append(self, piece: bytes, bound: int) -> None:
        room = bound - len(self.content)
        self.content += piece[:room]
        self.truncated = self.truncated or len(piece) > room

    def record(self, stream: Stream) -> LogRecord:
        message = self.content.decode("utf-8", "replace")
        return LogRecord(timestamp=self.timestamp, stream=stream, message=message, truncated=self.truncated)


def _from_terminal(raw: bytes, most: int, *, overflow: bool) -> _Line:
    """Remove the timestamps and the final carriage return from one line of a terminal."""
    timestamp, content = _split_timestamp(raw)
    line = _Line(timestamp)
    while True:
        piece, content = content[:PARTIAL_BYTES], content[PARTIAL_BYTES:]
        stamp = _TIMESTAMP.match(content) if content else None
        if stamp is not None:
            content = content[stamp.end() :]
        elif not content and piece.endswith(b"\r"):
            piece = piece[:-1]
        line.append(piece, most)
        if not content:
            break
    line.truncated = line.truncated or overflow
    return line


def _split_timestamp(payload: bytes) -> tuple[str, bytes]:
    """Split the leading timestamp from the payload; ("", payload) when there is none."""
    stamp = _TIMESTAMP.match(payload)
    if stamp is None:
        return "", payload
    text = stamp[0].rstrip().decode("ascii")
    if len(text) != _TIMESTAMP_CHARS or not text.endswith("Z"):
        # Podman gives whole seconds, in the zone of its host.
        text = format_ns(parse_ns(text) or 0)
    return text, payload[stamp.end() :]
