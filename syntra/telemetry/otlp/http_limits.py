"""Limits of the HTTP receiver. Pure."""

from __future__ import annotations

from syntra.utils.frozen import frozen


@frozen
class HttpLimits:
    """What one sender, and all senders together, may cost. Times are absolute: one more byte does not extend them."""

    max_request_bytes: int = 64 << 20
    """The longest body, before and after decompression; 413 above."""
    max_memory_bytes: int = 96 << 20
    """What all requests together may use. A request that alone needs more can never be read; 413."""
    max_head_bytes: int = 16 << 10
    """Request line and headers; 431 above."""
    max_connections: int = 512
    max_connections_per_address: int = 128
    """Senders on the host itself share one address."""
    head_secs: float = 10.0
    """From the first byte of a request until its head is complete; also the time for a TLS handshake."""
    body_secs: float = 60.0
    """From the end of the head until the body is complete. 64 MiB take 54 s at 10 Mbit/s."""
    idle_secs: float = 120.0
    """How long a connection may wait for its next request. SDKs send metrics once per minute."""
    write_secs: float = 20.0
    """Until the sender has taken a response."""
    drain_bytes: int = 256 << 10
    """How much of a refused body the receiver reads, so that the connection stays usable."""
    drain_secs: float = 5.0

    @property
    def body_bytes(self) -> int:
        """The longest body: within `max_request_bytes`, and with its buffer within `max_memory_bytes`."""
        return min(self.max_request_bytes, self.max_memory_bytes * 8 // 9)


def with_growth(size: int) -> int:
    """What `BytesIO` allocates for `size` bytes: an eighth more."""
    return size + (size >> 3)
