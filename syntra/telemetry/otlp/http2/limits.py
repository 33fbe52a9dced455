"""What one peer may cost, and the budget for frames that carry no request."""

from __future__ import annotations

from syntra.telemetry.otlp.http2.frames import ConnectionFault, ErrorCode
from syntra.utils.frozen import frozen

FAULT_COST = 10
"""What a stream costs that is opened and reset (CVE-2023-44487, "rapid reset"), or that broke a rule."""
ANSWER_CREDIT = 8
"""What each answered request returns to the budget: gRPC clients send pings and window updates for each response."""
SECOND_CREDIT = 100
"""What each second returns."""


@frozen
class Http2Limits:
    """Limits of one connection. The peer learns of the first four in SETTINGS."""

    max_streams: int = 256
    """Requests at the same time, those included that were reset while they are worked on."""
    max_frame_bytes: int = 1 << 18
    """Payload of a DATA frame. The others must be as short as a header block."""
    max_header_list_bytes: int = 16 << 10
    """Decompressed headers of one request (§6.5.2 has the formula)."""
    stream_window_bytes: int = 1 << 20
    connection_window_bytes: int = 4 << 20
    max_header_block_bytes: int = 16 << 10
    """Compressed headers of one request, in HEADERS and CONTINUATION together."""
    max_continuations: int = 16
    small_data_bytes: int = 256
    """DATA frames below this size that do not end a request are paid from the budget."""
    budget: int = 4000
    """See `Budget`."""


class Budget:
    """Limits frames that are cheap to send and carry no request: pings, settings, resets, empty DATA and so on.

    Each frame takes from the budget; time and answered requests return to it. A peer that has used it up is cut off.
    """

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def take(self, what: str, cost: int = 1) -> None:
        """Pay for a frame. Raises ConnectionFault; `too_many_pings` is the text that gRPC clients know (gRFC A8)."""
        self._left -= cost
        if self._left < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too_many_{what}")

    def give(self, credit: int) -> None:
        """Return some."""
        self._left = min(self._limit, self._left + credit)
