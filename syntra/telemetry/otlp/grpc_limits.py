"""Limits of the gRPC receiver. Pure."""

from __future__ import annotations

from syntra.telemetry.otlp.http2.limits import Http2Limits
from syntra.utils.frozen import frozen


@frozen
class GrpcLimits:
    """What senders may cost. Times are absolute: one more byte does not extend them."""

    max_request_bytes: int = 64 << 20
    """The longest message, before and after decompression; RESOURCE_EXHAUSTED above."""
    max_memory_bytes: int = 96 << 20
    """What all requests together may use. A message that alone needs more can never be read; RESOURCE_EXHAUSTED."""
    max_connections: int = 512
    """On each address."""
    max_reading: int = 2048
    """Requests whose message is on its way, on all connections; UNAVAILABLE above."""
    handshake_secs: float = 10.0
    """Until a new connection has spoken TLS, if any, and HTTP/2."""
    read_secs: float = 60.0
    """From the start of a request until its message is complete. 64 MiB take 54 s at 10 Mbit/s."""
    pressed_secs: float = 5.0
    """The same while other requests are refused for lack of room, so that stalled senders do not lock them out."""
    write_secs: float = 20.0
    """Until the sender has taken a response."""
    silence_secs: float = 90.0
    """After this time a sender is pinged, and cut off if it says nothing for `pong_secs`. So one that is gone without a
    word (a paused container, a cut network) is noticed within two minutes."""
    pong_secs: float = 20.0
    http2: Http2Limits = Http2Limits()

    @property
    def body_bytes(self) -> int:
        """The longest message: within `max_request_bytes`, and with its buffer within `max_memory_bytes`."""
        return min(self.max_request_bytes, self.max_memory_bytes * 8 // 9)
