"""One HTTP/2 connection to an OTLP/gRPC endpoint: unary calls side by side, each with an answer of limited size."""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from syntra.telemetry.shipping.endpoint import Endpoint
from syntra.telemetry.shipping.grpc_status import Code, Status, of_answer, of_reset
from syntra.utils.frozen import frozen

# Its debug messages have every header in them, the secret ones too.
logging.getLogger("hpack").setLevel(logging.WARNING)

ANSWER_MAX = 4 * 1024 * 1024
"""The OTLP specification limits answers to this."""
PREFIX_BYTES = 5
_NOT_HTTP2 = b"HTTP/1."


@frozen
class Reply:
    """How a call ended, and the message of its answer: empty unless the status is OK."""

    status: Status
    message: bytes = b""


class CallLost(ConnectionError):
    """The connection ended before the answer. `is_untouched`: the peer says that it has not begun the call."""

    def __init__(self, reason: str, *, is_untouched: bool = False) -> None:
        super().__init__(reason)
        self.is_untouched = is_untouched


class GrpcConnection(asyncio.Protocol):
    """Made by `open`."""

    def __init__(self) -> None:
        self._http2 = _Http2(H2Configuration(client_side=True, header_encoding=None))
        self._http2.local_settings = Settings(client=True, initial_values={SettingCodes.ENABLE_PUSH: 0})
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, _Call] = {}
        self._may_write = True
        self._is_going_away = False
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, endpoint: Endpoint, tls: ssl.SSLContext | None) -> Self:
        """Connect; the caller sets a deadline. `tls` must offer `h2` (ALPN).

        Raises OSError, also for TLS failures and peers that speak no HTTP/2.
        """
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(cls, endpoint.host, endpoint.port, ssl=tls)
        try:
            if not _has_http2(transport):
                raise ConnectionError("the endpoint does not offer HTTP/2, which gRPC needs")
            # Limits of the peer come first: no call may exceed them.
            await connection._greeted
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def has_room(self) -> bool:
        """Whether another call may begin now."""
        return (
            self._transport is not None
            and not self._is_going_away
            and len(self._calls) < self._http2.remote_settings.max_concurrent_streams
        )

    @property
    def is_over(self) -> bool:
        """Whether no call may begin any more."""
        return self._transport is None or self._is_going_away

    async def call(self, headers: Sequence[tuple[str, str]], flags: int, body: bytes) -> Reply:
        """Send one message and wait for the answer; the caller sets a deadline. Raises CallLost.

        `flags` is 1 for a compressed message. Cancelling resets the call, and no other.
        """
        if self.is_over:
            raise CallLost("the connection was closed", is_untouched=True)
        stream = self._http2.get_next_available_stream_id()
        call = self._calls[stream] = _Call(asyncio.get_running_loop().create_future())
        try:
            self._http2.send_headers(stream, headers)
            await self._send(stream, call, flags.to_bytes(1, "big") + len(body).to_bytes(4, "big") + body)
            return await call.reply
        except ProtocolError as exc:
            raise CallLost(f"the call cannot be sent: {exc}") from exc
        finally:
            del self._calls[stream]
            self._give_up(stream)
            if self._is_going_away and not self._calls:
                self.close()

    def close(self) -> None:
        """Close at once; calls that wait for their answer end with CallLost."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's callback."""
        assert isinstance(transport, asyncio.Transport), "cannot happen: create_connection makes a stream"
        self._transport = transport
        if _has_http2(transport):
            self._http2.initiate_connection()
            self._flush()

    def data_received(self, data: bytes) -> None:
        """asyncio's callback."""
        if not self._greeted.done() and data.startswith(_NOT_HTTP2):
            self._end("the endpoint speaks HTTP/1.1, not gRPC; check its port")
            return
        try:
            for event in self._http2.receive_data(data):
                self._take(event)
        except ProtocolError as exc:
            self._flush()
            self._end(f"the peer broke HTTP/2: {exc}")
        self._flush()

    def pause_writing(self) -> None:
        """asyncio's callback."""
        self._may_write = False

    def resume_writing(self) -> None:
        """asyncio's callback."""
        self._may_write = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's callback."""
        self._transport = None
        self._end(str(exc) if exc else "the peer closed the connection")

    # Sending

    async def _send(self, stream: int, call: _Call, message: bytes) -> None:
        """Send a message as the peer's flow control and the socket allow, until the peer has answered."""
        left = memoryview(message)
        while left and not call.reply.done():
            room = min(self._http2.local_flow_control_window(stream), self._http2.max_outbound_frame_size)
            if room <= 0 or not self._may_write:
                call.wake.clear()
                self._flush()
                # The flush itself may have stopped or ended the connection.
                if room <= 0 or not self._may_write:
                    await call.wake.wait()
                continue
            part, left = left[:room], left[room:]
            self._http2.send_data(stream, part, end_stream=not left)
            self._flush()
        self._flush()

    def _give_up(self, stream: int) -> None:
        """Reset a stream that is not over on both sides."""
        with suppress(ProtocolError):  # it is over
            self._http2.reset_stream(stream, ErrorCodes.CANCEL)
            self._flush()

    def _flush(self) -> None:
        output = self._http2.data_to_send()
        if output and self._transport is not None:
            self._transport.write(output)

    # Receiving

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self._on_fields(event)
            case DataReceived():
                self._on_data(event)
            case StreamEnded():
                if call := self._calls.get(event.stream_id):
                    call.finish()
            case StreamReset():
                if call := self._calls.get(event.stream_id):
                    self._on_reset(call, int(event.error_code or 0))
            case ConnectionTerminated():
                self._is_going_away = True
                for stream, call in self._calls.items():
                    if stream > (event.last_stream_id or 0):
                        call.lose("the peer is going away", is_untouched=True)
                if not self._calls:
                    self.close()
            case RemoteSettingsChanged():
                if not self._greeted.done():
                    self._greeted.set_result(None)
                self._wake()
            case WindowUpdated():
                self._wake()

    def _on_fields(self, event: ResponseReceived | TrailersReceived) -> None:
        call = self._calls.get(event.stream_id or 0)
        if call is not None:
            call.fields.update((bytes(name), bytes(value)) for name, value in event.headers or ())

    def _on_data(self, event: DataReceived) -> None:
        stream = event.stream_id or 0
        if event.flow_controlled_length:
            self._http2.acknowledge_received_data(event.flow_controlled_length, stream)
        call = self._calls.get(stream)
        if call is None:
            return
        call.body += event.data or b""
        if len(call.body) > ANSWER_MAX:
            call.lose(f"its answer is larger than {ANSWER_MAX} bytes")

    def _on_reset(self, call: _Call, error: int) -> None:
        if error == ErrorCodes.REFUSED_STREAM:
            call.lose("the peer has refused the call", is_untouched=True)
        elif not call.reply.done():
            call.reply.set_result(Reply(status=of_reset(error)))
            call.wake.set()

    def _wake(self) -> None:
        for call in self._calls.values():
            call.wake.set()

    def _end(self, reason: str) -> None:
        """The connection is over for all calls."""
        if not self._greeted.done():
            self._greeted.set_exception(CallLost(reason))
            self._greeted.exception()  # `open` may have given up: then it is no error that was not read
        for call in self._calls.values():
            call.lose(reason)
        self._is_going_away = True
        self.close()


class _Call:
    """A call that waits for its answer. `wake` is set when its message may have room to be sent."""

    __slots__ = ("body", "fields", "reply", "wake")

    def __init__(self, reply: asyncio.Future[Reply]) -> None:
        self.reply = reply
        self.wake = asyncio.Event()
        self.fields: dict[bytes, bytes] = {}
        self.body = bytearray()

    def finish(self) -> None:
        """The answer is complete."""
        if self.reply.done():
            return
        status = of_answer(self.fields)
        message = b""
        if status.code is Code.OK:
            message = _message(bytes(self.body), self.fields.get(b"grpc-encoding", b""))
        self.reply.set_result(Reply(status=status, message=message))
        self.wake.set()

    def lose(self, reason: str, *, is_untouched: bool = False) -> None:
        """There will be no answer."""
        if not self.reply.done():
            self.reply.set_exception(CallLost(reason, is_untouched=is_untouched))
            self.reply.exception()  # the caller may have been cancelled: then it is no error that was not read
            self.wake.set()


def _has_http2(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has chosen HTTP/2 in the TLS handshake; without TLS there is no choice."""
    tls = transport.get_extra_info("ssl_object")
    return tls is None or tls.selected_alpn_protocol() == "h2"


def _message(body: bytes, encoding: bytes) -> bytes:
    """The message of an answer. Without a readable one: the status said OK, so it is a success without details."""
    message = body[PREFIX_BYTES:]
    if body[:1] != b"\1":
        return message
    if encoding != b"gzip":
        return b""
    try:
        return zlib.decompressobj(wbits=31).decompress(message, ANSWER_MAX)
    except zlib.error:
        return b""


class _Http2(H2Connection):
    """h2 takes GOAWAY as the end of the connection, but the peer still answers what it has begun (RFC 9113 §6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]
