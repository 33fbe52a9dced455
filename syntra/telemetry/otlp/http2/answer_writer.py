"""The answers of one connection: header blocks at once, bodies as the peer's flow control allows (§5.2)."""

from __future__ import annotations

from syntra.telemetry.otlp.http2 import frames
from syntra.telemetry.otlp.http2.frames import DEFAULT_WINDOW, MAX_WINDOW, ConnectionFault, ErrorCode, frame
from syntra.telemetry.otlp.http2.headers import NO_TABLE
from syntra.telemetry.otlp.http2.streams import Stream

_LAST = frames.END_HEADERS | frames.END_STREAM


class AnswerWriter:
    """Writes to `output`. Methods that return whether an answer is complete have then written all of it."""

    def __init__(self, output: list[bytes]) -> None:
        self._output = output
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._max_frame = frames.SMALLEST_MAX_FRAME
        self._table_changed = False
        self.blocked: dict[int, Stream] = {}
        """Streams whose body waits for flow control."""

    @property
    def stream_window(self) -> int:
        """What a new stream may send."""
        return self._stream_window

    def apply(self, values: dict[int, int], streams: dict[int, Stream]) -> None:
        """Follow the peer's settings. Raises ConnectionFault."""
        self._table_changed = self._table_changed or frames.HEADER_TABLE_SIZE in values
        self._max_frame = values.get(frames.MAX_FRAME_SIZE, self._max_frame)
        change = values.get(frames.INITIAL_WINDOW_SIZE, self._stream_window) - self._stream_window
        if change:
            self._stream_window += change
            for stream in streams.values():
                stream.window_out += change
                if stream.window_out > MAX_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")

    def grow(self, increment: int) -> None:
        """Take a WINDOW_UPDATE of the connection. Raises ConnectionFault."""
        self._window += increment
        if self._window > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window of the connection is too large")

    def begin(self, stream: Stream, headers: bytes, body: bytes, trailers: bytes) -> bool:
        """Begin an answer; without a body, `headers` is all of it."""
        if self._table_changed:
            self._table_changed = False
            headers = NO_TABLE + headers
        self._output.append(frame(frames.HEADERS, frames.END_HEADERS if body else _LAST, stream.id, headers))
        if not body:
            return True
        stream.body, stream.trailers = body, trailers
        return self.go_on(stream)

    def go_on(self, stream: Stream) -> bool:
        """Send more of a body, and the trailers behind it."""
        while stream.body:
            size = min(len(stream.body), stream.window_out, self._window, self._max_frame)
            if size <= 0:
                self.blocked[stream.id] = stream
                return False
            self._output.append(frame(frames.DATA, 0, stream.id, stream.body[:size]))
            stream.body = stream.body[size:]
            stream.window_out -= size
            self._window -= size
        self._output.append(frame(frames.HEADERS, _LAST, stream.id, stream.trailers))
        return True

    def ready(self) -> list[Stream]:
        """Streams that may have room now."""
        return list(self.blocked.values()) if self._window > 0 else []
