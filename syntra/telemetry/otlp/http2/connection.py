"""One connection: the state of its streams, and the answer to everything that a peer may send."""

from __future__ import annotations

from collections.abc import Collection

from syntra.telemetry.otlp.http2 import frames
from syntra.telemetry.otlp.http2.answer_writer import AnswerWriter
from syntra.telemetry.otlp.http2.events import (
    DataReceived,
    Event,
    PongReceived,
    RequestEnded,
    RequestStarted,
    StreamReset,
)
from syntra.telemetry.otlp.http2.frame_reader import FrameReader
from syntra.telemetry.otlp.http2.frames import (
    DEFAULT_WINDOW,
    MAX_WINDOW,
    NUMBER,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    frame,
)
from syntra.telemetry.otlp.http2.headers import HeaderDecoder, check_trailers
from syntra.telemetry.otlp.http2.limits import ANSWER_CREDIT, FAULT_COST, SECOND_CREDIT, Budget, Http2Limits
from syntra.telemetry.otlp.http2.streams import Recent, Stream


class Http2Connection:
    """Pass what the peer sends to `receive`, and send the peer what `take_output` returns after each call."""

    def __init__(self, limits: Http2Limits | None = None) -> None:
        self._limits = limits = limits or Http2Limits()
        self._budget = Budget(limits.budget)
        self._decoder = HeaderDecoder(limits.max_header_list_bytes)
        self._reader = FrameReader(
            self, max_data_bytes=limits.max_frame_bytes, max_other_bytes=limits.max_header_block_bytes
        )
        self._streams: dict[int, Stream] = {}
        self._recent = Recent()
        self._last_stream = 0
        # A header block in several frames: the flags of the first, and the parts.
        self._block: tuple[int, list[bytes]] = (0, [])
        # The DATA frame that is being received: its stream, if it is for one, and whether it ends the request.
        self._data_of: Stream | None = None
        self._data_ends = False
        self._window_in = limits.connection_window_bytes
        self._events: list[Event] = []
        self.fault: ConnectionFault | None = None
        """What ended the connection; the caller sends the output and closes."""
        self.is_going_away = False
        self._output: list[bytes] = [
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: limits.max_streams,
                    frames.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                    frames.MAX_FRAME_SIZE: limits.max_frame_bytes,
                    frames.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
                }
            ),
            frames.window_update(0, limits.connection_window_bytes - DEFAULT_WINDOW),
        ]
        self._answers = AnswerWriter(self._output)

    @property
    def has_streams(self) -> bool:
        """Whether a request is on its way or not answered yet."""
        return bool(self._streams)

    @property
    def blocked(self) -> Collection[int]:
        """Streams whose answer waits for the peer's flow control."""
        return self._answers.blocked.keys()

    @property
    def is_established(self) -> bool:
        """Whether the peer has greeted."""
        return self._reader.is_established

    def take_output(self) -> bytes:
        """Bytes for the peer."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """Take bytes of the peer. After a fault everything is ignored."""
        if self.fault is not None:
            return []
        events = self._events = []
        try:
            self._reader.read(memoryview(data))
        except ConnectionFault as fault:
            self.fault = fault
            self._say_goodbye(fault.code, str(fault))
        return events

    def respond(self, stream_id: int, headers: bytes, body: bytes = b"", trailers: bytes = b"") -> None:
        """Answer a request with header blocks of `encode_headers`; without a body, `headers` ends the stream.

        The body waits until the peer's flow control allows it. A request that is not complete yet is cut off.
        """
        stream = self._streams.get(stream_id)
        if stream is None or self.fault is not None:
            return
        if stream.is_reset:
            del self._streams[stream_id]
            return
        self._budget.give(ANSWER_CREDIT)
        if self._answers.begin(stream, headers, body, trailers):
            self._answered(stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream without an answer."""
        stream = self._streams.get(stream_id)
        if stream is not None and self.fault is None:
            self._output.append(frames.reset(stream_id, code))
            self._close(stream, was_reset=True)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._output.append(frame(frames.PING, 0, 0, bytes(8)))

    def go_away(self) -> None:
        """Take no new requests; the peer sends those elsewhere that it began after this (§6.8)."""
        if not self.is_going_away and self.fault is None:
            self._say_goodbye(ErrorCode.NO_ERROR, "")

    def second_passed(self) -> None:
        """Return a second's credit to the budget."""
        self._budget.give(SECOND_CREDIT)

    # What the reader calls

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """See `frame_reader.Sink`."""
        match kind:
            case frames.HEADERS:
                self._headers(stream, flags, payload)
            case frames.CONTINUATION:
                self._continuation(stream, flags, payload)
            case frames.WINDOW_UPDATE:
                self._budget.take("window_updates")
                self._window_update(stream, NUMBER.unpack(payload)[0] & MAX_WINDOW)
            case frames.PING if flags & frames.ACK:
                self._budget.take("pongs")
                self._events.append(PongReceived())
            case frames.PING:
                self._budget.take("pings")
                self._output.append(frame(frames.PING, frames.ACK, 0, payload))
            case frames.SETTINGS:
                self._budget.take("settings")
                self._settings(flags, payload)
            case frames.RST_STREAM:
                self._peer_reset(stream)
            case frames.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "only servers push")
            case frames.PRIORITY:
                self._budget.take("priorities")
                self._check_priority(stream, payload)
            case _:
                # GOAWAY says that the peer begins no more streams; unknown types are ignored (§5.5).
                self._budget.take("frames")

    def begin_data(self, stream: int, flags: int, size: int) -> None:
        """See `frame_reader.Sink`."""
        limits = self._limits
        self._window_in -= size
        if self._window_in < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more than the window of the connection")
        if self._window_in <= limits.connection_window_bytes // 2:
            self._output.append(frames.window_update(0, limits.connection_window_bytes - self._window_in))
            self._window_in = limits.connection_window_bytes
        self._data_of = None
        self._data_ends = bool(flags & frames.END_STREAM)
        open_stream = self._streams.get(stream)
        if open_stream is not None and open_stream.is_reset:
            open_stream = None
        if size < limits.small_data_bytes and (open_stream is None or not self._data_ends):
            self._budget.take("small_frames")
        if open_stream is None:
            self._on_closed(stream)
        elif open_stream.has_ended:
            self._fail(stream, ErrorCode.STREAM_CLOSED)
        elif size > open_stream.window_in:
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self._data_of = open_stream
            open_stream.window_in -= size
            if open_stream.window_in <= limits.stream_window_bytes // 2 and not self._data_ends:
                self._output.append(frames.window_update(stream, limits.stream_window_bytes - open_stream.window_in))
                open_stream.window_in = limits.stream_window_bytes

    def data(self, part: memoryview) -> None:
        """See `frame_reader.Sink`."""
        stream = self._data_of
        if stream is not None:
            stream.received += len(part)
            self._events.append(DataReceived(stream.id, part))

    def end_data(self) -> None:
        """See `frame_reader.Sink`."""
        stream, self._data_of = self._data_of, None
        # Between two reads the request may have been refused.
        if stream is not None and self._data_ends and stream.id in self._streams:
            try:
                self._request_ended(stream)
            except StreamFault as fault:
                self._fail(stream.id, fault.code)

    # Header blocks

    def _headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        start, end = 0, len(payload)
        if flags & frames.PADDED:
            start = 1
            end -= payload[0] if payload else 0
        if flags & frames.WITH_PRIORITY:
            start += 5
        if start > end:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the padding is longer than the frame")
        block = payload[start:end]
        if flags & frames.END_HEADERS:
            self._block_ended(stream_id, flags, block)
        else:
            self._block = (flags, [block])
        if flags & frames.WITH_PRIORITY:
            self._check_priority(stream_id, payload[start - 5 :])

    def _continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        first_flags, parts = self._block
        parts.append(payload)
        limits = self._limits
        if len(parts) > limits.max_continuations or sum(map(len, parts)) > limits.max_header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_continuations")
        if flags & frames.END_HEADERS:
            self._block_ended(stream_id, first_flags, b"".join(parts))

    def _block_ended(self, stream_id: int, flags: int, block: bytes) -> None:
        ends = bool(flags & frames.END_STREAM)
        try:
            if stream_id > self._last_stream and stream_id % 2:
                self._begin(stream_id, block, ends)
            else:
                self._trailers(stream_id, block, ends)
        except StreamFault as fault:
            self._fail(stream_id, fault.code)

    def _begin(self, stream_id: int, block: bytes, ends: bool) -> None:
        if self.is_going_away:
            # The peer learns from GOAWAY that it was ignored.
            self._decoder.fields(block)
            return
        self._last_stream = stream_id
        head = self._decoder.request(block)
        if len(self._streams) >= self._limits.max_streams:
            self._budget.take("streams")
            self._output.append(frames.reset(stream_id, ErrorCode.REFUSED_STREAM))
            self._recent.add(stream_id, was_reset=True)
            return
        stream = Stream(stream_id, self._limits.stream_window_bytes, self._answers.stream_window, head.content_length)
        self._streams[stream_id] = stream
        self._events.append(RequestStarted(stream_id, head))
        if ends:
            self._request_ended(stream)

    def _trailers(self, stream_id: int, block: bytes, ends: bool) -> None:
        self._budget.take("trailers")
        fields = self._decoder.fields(block)
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_reset:
            self._on_closed(stream_id)
        elif stream.has_ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "the request has ended")
        elif not ends:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers do not end the request")
        else:
            check_trailers(fields)
            self._request_ended(stream)

    def _request_ended(self, stream: Stream) -> None:
        if stream.content_length is not None and stream.received != stream.content_length:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "the body is not as long as content-length says")
        stream.has_ended = True
        self._events.append(RequestEnded(stream.id))

    # Settings, windows and priorities

    def _settings(self, flags: int, payload: bytes) -> None:
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has the wrong size")
        if flags & frames.ACK:
            return
        values = {}
        for key, value in frames.SETTING.iter_unpack(payload):
            if key == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
            if key == frames.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
            if key == frames.MAX_FRAME_SIZE and not frames.SMALLEST_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
            # The last value counts, so the work for a frame does not grow with repeated entries.
            values[key] = value
        self._answers.apply(values, self._streams)
        self._output.append(frame(frames.SETTINGS, frames.ACK, 0))
        self._send_blocked()

    def _window_update(self, stream_id: int, increment: int) -> None:
        if stream_id == 0:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._answers.grow(increment)
            self._send_blocked()
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id)
            return
        stream.window_out += increment
        if not increment or stream.window_out > MAX_WINDOW:
            self._fail(stream_id, ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR)
        elif stream_id in self._answers.blocked and self._answers.go_on(stream):
            self._answered(stream)

    def _send_blocked(self) -> None:
        for stream in self._answers.ready():
            if self._answers.go_on(stream):
                self._answered(stream)

    def _check_priority(self, stream_id: int, payload: bytes) -> None:
        """Priorities are ignored, except that nothing depends on itself (RFC 7540 §5.3.1)."""
        if NUMBER.unpack_from(payload)[0] & MAX_WINDOW == stream_id:
            self._fail(stream_id, ErrorCode.PROTOCOL_ERROR)

    # Ends of streams

    def _answered(self, stream: Stream) -> None:
        if not stream.has_ended:
            # The rest of the request is not wanted (§8.1).
            self._output.append(frames.reset(stream.id, ErrorCode.NO_ERROR))
        self._close(stream, was_reset=not stream.has_ended)

    def _close(self, stream: Stream, *, was_reset: bool) -> None:
        self._answers.blocked.pop(stream.id, None)
        del self._streams[stream.id]
        self._recent.add(stream.id, was_reset=was_reset)

    def _peer_reset(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id)
            self._budget.take("frames")
        else:
            self._budget.take("resets", FAULT_COST)
            self._abandon(stream, was_reset=False)

    def _fail(self, stream_id: int, code: ErrorCode) -> None:
        self._budget.take("faults", FAULT_COST)
        self._output.append(frames.reset(stream_id, code))
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._abandon(stream, was_reset=True)
        else:
            self._recent.add(stream_id, was_reset=True)

    def _abandon(self, stream: Stream, *, was_reset: bool) -> None:
        if stream.is_reset:
            return
        self._events.append(StreamReset(stream.id))
        if stream.has_ended and not stream.trailers:
            # A request that is worked on counts as open until it is answered, so resets start no unlimited work.
            stream.is_reset = True
            self._recent.add(stream.id, was_reset=was_reset)
        else:
            self._close(stream, was_reset=was_reset)
        if self._data_of is stream:
            self._data_of = None

    def _on_closed(self, stream_id: int) -> None:
        """DATA or HEADERS for a stream that is not open: ignored if we ended it, for the peer may not know (§5.1)."""
        self._check_not_idle(stream_id)
        was_reset = self._recent.get(stream_id)
        if was_reset is None and stream_id <= self._last_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the stream was never open, or long ago")
        if was_reset is False:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "the stream has ended")

    def _check_not_idle(self, stream_id: int) -> None:
        is_idle = stream_id > self._last_stream and not self.is_going_away
        if is_idle or not stream_id % 2:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the stream is not open yet")

    def _say_goodbye(self, code: ErrorCode, text: str) -> None:
        self.is_going_away = True
        payload = NUMBER.pack(self._last_stream) + NUMBER.pack(code) + text.encode()
        self._output.append(frame(frames.GOAWAY, 0, 0, payload))
