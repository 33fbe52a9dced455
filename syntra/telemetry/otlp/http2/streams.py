"""What a connection knows of its streams."""

from __future__ import annotations

REMEMBERED = 1024


class Stream:
    """An open stream."""

    __slots__ = (
        "body",
        "content_length",
        "has_ended",
        "id",
        "is_reset",
        "received",
        "trailers",
        "window_in",
        "window_out",
    )

    def __init__(self, stream_id: int, window_in: int, window_out: int, content_length: int | None) -> None:
        self.id = stream_id
        self.window_in = window_in
        self.window_out = window_out
        self.content_length = content_length
        self.received = 0
        self.has_ended = False
        """Whether the request is complete."""
        self.is_reset = False
        """Whether the answer is not wanted any more."""
        self.body = b""
        """What waits for the peer's flow control."""
        self.trailers = b""


class Recent:
    """The streams that ended last, and whether we ended them: then the peer may still send frames of them."""

    def __init__(self) -> None:
        self._streams: dict[int, bool] = {}

    def add(self, stream_id: int, *, was_reset: bool) -> None:
        """Note the end of a stream."""
        self._streams[stream_id] = was_reset
        if len(self._streams) > REMEMBERED:
            del self._streams[next(iter(self._streams))]

    def get(self, stream_id: int) -> bool | None:
        """Whether we reset the stream; None for one that is not remembered."""
        return self._streams.get(stream_id)
