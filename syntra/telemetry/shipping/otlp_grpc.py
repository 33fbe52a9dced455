"""Exports to an OTLP/gRPC endpoint over one long-lived connection, with messages as bytes.

What statuses mean (OTLP specification, "OTLP/gRPC Response"): CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE,
UNAVAILABLE and DATA_LOSS are sent again, RESOURCE_EXHAUSTED only with RetryInfo; the others are refused for good. A
RESOURCE_EXHAUSTED about the size of the message is halved.
"""

from __future__ import annotations

import asyncio
import ssl

from syntra.telemetry.shipping.answers import partial_success, reason_of, shortened, status_of
from syntra.telemetry.shipping.bodies import Compression, body_of
from syntra.telemetry.shipping.destination import Batch, Sent, later, refused, taken
from syntra.telemetry.shipping.endpoint import SIGNALS, Endpoint, method
from syntra.telemetry.shipping.grpc_connection import CallLost, GrpcConnection, Reply
from syntra.telemetry.shipping.grpc_status import Code, Status
from syntra.telemetry.shipping.headers import redactor_of
from syntra.telemetry.shipping.parts import SizeLimit, send_in_parts

MESSAGE_MAX = 3_500_000
"""Most peers refuse messages from 4 MiB on."""
RETRYABLE = frozenset(
    {
        Code.CANCELLED,
        Code.DEADLINE_EXCEEDED,
        Code.ABORTED,
        Code.OUT_OF_RANGE,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    }
)
SIZE_WORDS = ("larger than", "too large", "exceeds max", "message size")
"""How the gRPC libraries of Go, C, Java and Rust say that a message is too large; there is no code for it."""
DEAD_AFTER = 3
"""Deadlines exceeded one after another until the connection is made again: a NAT may have lost it."""


class OtlpGrpcExporter:
    """A destination. `tls` is needed for `https` alone, and must offer `h2` (ALPN)."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        compression: Compression = Compression.GZIP,
        headers: tuple[tuple[str, str], ...] = (),
        tls: ssl.SSLContext | None = None,
        timeout_secs: float = 10.0,
    ) -> None:
        self._endpoint = endpoint
        self._compression = compression
        self._tls = tls
        self._timeout = timeout_secs
        self._limit = SizeLimit(MESSAGE_MAX)
        self._redactor = redactor_of(headers)
        self._deadlines = 0
        self._connections: list[GrpcConnection] = []
        self._connecting = asyncio.Lock()
        standard = [
            (":method", "POST"),
            (":scheme", "https" if endpoint.is_tls else "http"),
            (":authority", endpoint.host_header),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "syntra-agent"),
            ("grpc-timeout", f"{round(timeout_secs * 1000)}m"),
            ("grpc-accept-encoding", "identity, gzip"),
        ]
        if compression is not Compression.NONE:
            standard.append(("grpc-encoding", compression.value))
        self._headers = (*standard, *(pair for pair in headers if pair[0] != "user-agent"))

    @property
    def name(self) -> str:
        """The address."""
        return self._endpoint.url

    async def send(self, batch: Batch) -> Sent:
        """See Destination."""
        if batch.signal not in SIGNALS:
            return refused(batch, f"OTLP has no signal {batch.signal.value}")
        return await send_in_parts(batch, self._limit, self._send_part)

    async def aclose(self) -> None:
        """Close all connections; calls that run end at once."""
        while self._connections:
            self._connections.pop().close()

    async def _send_part(self, part: Batch) -> Sent | None:
        body = await body_of(part, self._compression)
        size = len(body)
        headers = (*self._headers[:3], (":path", method(part.signal)), *self._headers[3:])
        try:
            async with asyncio.timeout(self._timeout):
                reply = await self._call(headers, body)
        except TimeoutError:
            reply = Reply(status=Status(code=Code.DEADLINE_EXCEEDED, message=f"no answer within {self._timeout:g} s"))
        except OSError as exc:  # CallLost is one
            return later(part, self._clean(reason_of(exc)), wire_bytes=size)
        if reply.status.code is Code.OK:
            self._deadlines = 0
            rejected, message = partial_success(reply.message)
            return taken(part, rejected=rejected, reason=self._clean(message), wire_bytes=size)
        return await self._judge(part, reply.status, size)

    async def _call(self, headers: tuple[tuple[str, str], ...], body: bytes) -> Reply:
        flags = int(self._compression is not Compression.NONE)
        try:
            return await (await self._connection()).call(headers, flags, body)
        except CallLost as lost:
            # gRFC A6: what the peer has not begun is sent again at once, one time.
            if not lost.is_untouched:
                raise
        return await (await self._connection()).call(headers, flags, body)

    async def _connection(self) -> GrpcConnection:
        """A connection with room for a call."""
        async with self._connecting:
            self._connections = [each for each in self._connections if not each.is_over]
            for each in self._connections:
                if each.has_room:
                    return each
            opened = await GrpcConnection.open(self._endpoint, self._tls)
            self._connections.append(opened)
            return opened

    async def _judge(self, part: Batch, status: Status, size: int) -> Sent | None:
        code = status.code
        delay = status_of(status.details)[1] if status.details else None
        details = self._clean(shortened(status.message))
        reason = f"gRPC status {code.name}" + (f" ({details})" if details else "")
        if code is Code.RESOURCE_EXHAUSTED and delay is None:
            if any(word in details.lower() for word in SIZE_WORDS):
                return None
            return refused(part, reason, wire_bytes=size)
        if code is Code.DEADLINE_EXCEEDED:
            self._deadlines += 1
            if self._deadlines >= DEAD_AFTER:
                self._deadlines = 0
                await self.aclose()
        if code in RETRYABLE or code is Code.RESOURCE_EXHAUSTED:
            return later(part, reason, after_secs=delay, wire_bytes=size)
        return refused(part, reason, wire_bytes=size)

    def _clean(self, text: str) -> str:
        """Peers and libraries may repeat a header in their text."""
        return self._redactor.clean(text)
