"""Cuts what a peer sends into frames. DATA is passed on as it comes, so a long frame needs no buffer."""

from __future__ import annotations

from typing import Protocol

from syntra.telemetry.otlp.http2 import frames
from syntra.telemetry.otlp.http2.frames import HEAD, HEAD_BYTES, MAX_WINDOW, PREFACE, ConnectionFault, ErrorCode

_SIZES = {frames.RST_STREAM: 4, frames.WINDOW_UPDATE: 4, frames.PING: 8, frames.PRIORITY: 5}
"""Payloads of a fixed size."""
_OF_CONNECTION = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY})
_OF_STREAM = frozenset(
    {frames.DATA, frames.HEADERS, frames.PRIORITY, frames.RST_STREAM, frames.PUSH_PROMISE, frames.CONTINUATION}
)


class Sink(Protocol):
    """Takes the frames. Each method may raise ConnectionFault, which `read` passes on."""

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """A complete frame that is not DATA."""
        ...

    def begin_data(self, stream: int, flags: int, size: int) -> None:
        """A DATA frame begins; `size` counts for flow control."""
        ...

    def data(self, part: memoryview) -> None:
        """A part of it, without padding."""
        ...

    def end_data(self) -> None:
        """It is complete."""
        ...


class FrameReader:
    """The state between two reads of one connection."""

    def __init__(self, sink: Sink, *, max_data_bytes: int, max_other_bytes: int) -> None:
        self._sink = sink
        self._max_data = max_data_bytes
        self._max_other = max_other_bytes
        self._preface = PREFACE
        self._has_settings = False
        self._rest = b""
        # The header block that is being received; nothing else may come before its end (§6.10).
        self._block_of: int | None = None
        # What is missing of a DATA frame.
        self._data_left = 0
        self._padding_left = 0

    @property
    def is_established(self) -> bool:
        """Whether the peer's preface (§3.4) is complete."""
        return self._has_settings

    def read(self, data: memoryview) -> None:
        """Pass the frames in `data` to the sink. Raises ConnectionFault."""
        if self._rest:
            data = memoryview(self._rest + data)
            self._rest = b""
        at, end = self._after_preface(data), len(data)
        while at < end:
            if self._data_left or self._padding_left:
                at = self._read_data(data, at, end)
                continue
            if end - at < HEAD_BYTES:
                break
            high, low, kind, flags, stream = HEAD.unpack_from(data, at)
            size = high << 16 | low
            stream &= MAX_WINDOW
            self._check(kind, flags, stream, size)
            if kind == frames.DATA:
                # With padding, the first byte of the payload belongs to the head.
                if flags & frames.PADDED and end - at == HEAD_BYTES:
                    break
                at += HEAD_BYTES
                padding = data[at] if flags & frames.PADDED else None
                at += padding is not None
                self._begin_data(stream, flags, size, padding)
            else:
                if end - at < HEAD_BYTES + size:
                    break
                at += HEAD_BYTES + size
                self._has_settings = True
                if kind in (frames.HEADERS, frames.CONTINUATION):
                    self._block_of = None if flags & frames.END_HEADERS else stream
                self._sink.frame(kind, flags, stream, bytes(data[at - size : at]))
        if at < end:
            self._rest = bytes(data[at:])

    def _after_preface(self, data: memoryview) -> int:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
        self._preface = self._preface[size:]
        return size

    def _check(self, kind: int, flags: int, stream: int, size: int) -> None:
        if not self._has_settings and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if (self._block_of is not None) is not (kind == frames.CONTINUATION) or (
            kind == frames.CONTINUATION and stream != self._block_of
        ):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted, or not begun")
        if kind in (_OF_CONNECTION if stream else _OF_STREAM):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame has the wrong stream")
        if size > (self._max_other if kind else self._max_data) or _SIZES.get(kind, size) != size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame has the wrong size")

    def _begin_data(self, stream: int, flags: int, size: int, padding: int | None) -> None:
        self._padding_left = padding or 0
        self._data_left = size - self._padding_left - (padding is not None)
        if self._data_left < 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the padding is longer than the frame")
        self._sink.begin_data(stream, flags, size)
        if not self._data_left and not self._padding_left:
            self._sink.end_data()

    def _read_data(self, data: memoryview, at: int, end: int) -> int:
        if self._data_left:
            to = min(end, at + self._data_left)
            self._data_left -= to - at
            self._sink.data(data[at:to])
        else:
            to = min(end, at + self._padding_left)
            self._padding_left -= to - at
        if not self._data_left and not self._padding_left:
            self._sink.end_data()
        return to
