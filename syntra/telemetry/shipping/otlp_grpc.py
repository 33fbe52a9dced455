"""Exports to an OTLP/gRPC endpoint over one long-lived channel, with messages as bytes.

What statuses mean (OTLP specification, "OTLP/gRPC Response"): CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE,
UNAVAILABLE and DATA_LOSS are sent again, RESOURCE_EXHAUSTED only with RetryInfo; the others are refused for good. A
RESOURCE_EXHAUSTED about the size of the message is halved. grpcio has no zstd.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from syntra.telemetry.shipping.answers import partial_success, shortened, status_of
from syntra.telemetry.shipping.blocks import joined
from syntra.telemetry.shipping.destination import Batch, Sent, later, refused, taken
from syntra.telemetry.shipping.endpoint import SIGNALS, Endpoint, method
from syntra.telemetry.shipping.headers import redactor_of
from syntra.telemetry.shipping.parts import SizeLimit, send_in_parts

MESSAGE_MAX = 3_500_000
"""Most peers refuse messages from 4 MiB on."""
RETRYABLE = frozenset(
    grpc.StatusCode[name]
    for name in ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
)
SIZE_WORDS = ("larger than", "too large", "exceeds max", "message size")
"""How the gRPC libraries of Go, C, Java and Rust say that a message is too large; there is no code for it."""
INLINE_MAX = 1024 * 1024
DEAD_AFTER = 3
"""Deadlines exceeded one after another until the channel is opened again: a NAT may have lost the connection."""
_STATUS_DETAILS = "grpc-status-details-bin"


class OtlpGrpcExporter:
    """A destination. Make it on the event loop that uses it. `credentials` is needed for `https` alone."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        gzip: bool = False,
        headers: tuple[tuple[str, str], ...] = (),
        credentials: grpc.ChannelCredentials | None = None,
        timeout_secs: float = 10.0,
    ) -> None:
        self._endpoint = endpoint
        self._compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        self._credentials = credentials
        self._metadata = headers
        self._timeout = timeout_secs
        self._limit = SizeLimit(MESSAGE_MAX)
        self._redactor = redactor_of(headers)
        self._deadlines = 0
        self._calls: dict[str, Any] = {}
        self._channel = self._open()

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
        """Close the channel; calls that run end at once."""
        await self._channel.close(None)

    def _open(self) -> grpc.aio.Channel:
        # The shipper decides when to try again; the channel must be ready to dial by then.
        options: list[tuple[str, str | int]] = [
            ("grpc.initial_reconnect_backoff_ms", 500),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        options.append(("grpc.primary_user_agent", "syntra-agent"))
        target = f"dns:///{self._endpoint.authority}"
        self._calls.clear()
        if self._endpoint.is_tls:
            credentials = self._credentials or grpc.ssl_channel_credentials()
            return grpc.aio.secure_channel(target, credentials, options)
        return grpc.aio.insecure_channel(target, options)

    async def _send_part(self, part: Batch) -> Sent | None:
        body = joined(part) if part.raw_bytes <= INLINE_MAX else await asyncio.to_thread(joined, part)
        size = len(body)
        try:
            # The second deadline is for a library that does not keep the first.
            async with asyncio.timeout(self._timeout + 5.0):
                answer = await self._call(method(part.signal))(
                    body, timeout=self._timeout, metadata=self._metadata, compression=self._compression
                )
        except grpc.aio.AioRpcError as exc:
            return await self._judge(part, exc, size)
        except TimeoutError:
            return later(part, f"no answer within {self._timeout:g} s", wire_bytes=size)
        self._deadlines = 0
        rejected, message = partial_success(answer)
        return taken(part, rejected=rejected, reason=self._redactor.clean(message), wire_bytes=size)

    def _call(self, name: str) -> Any:
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = self._channel.unary_unary(name, None, None)
        return call

    async def _judge(self, part: Batch, error: grpc.aio.AioRpcError, size: int) -> Sent | None:
        code = error.code()
        delay = _retry_delay(error)
        details = self._redactor.clean(shortened(error.details() or ""))
        reason = f"gRPC status {code.name}" + (f" ({details})" if details else "")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and delay is None:
            if any(word in details.lower() for word in SIZE_WORDS):
                return None
            return refused(part, reason, wire_bytes=size)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._deadlines += 1
            if self._deadlines >= DEAD_AFTER:
                old, self._channel, self._deadlines = self._channel, self._open(), 0
                await old.close(None)
        if code in RETRYABLE or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return later(part, reason, after_secs=delay, wire_bytes=size)
        return refused(part, reason, wire_bytes=size)


def _retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            return status_of(value)[1]
    return None
