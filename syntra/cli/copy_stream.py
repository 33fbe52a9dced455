"""The archive of a copy as a file: what is read comes from the agent, what is written goes to it, as frames.

Blocking, and bounded: output is read from the socket only when it is asked for, and input is sent only while the agent
gave credit for it.
"""

from __future__ import annotations

import select
from types import TracebackType
from typing import Self

from syntra.cli.agent_client import TAKEN_SECS, AgentConnection, broken, raise_for_error
from syntra.cli.reading import Json
from syntra.model.exec_frames import (
    INPUT_BYTES,
    WINDOW_BYTES,
    BadFrame,
    ExecFrames,
    FrameKind,
    credit_of,
    encoded,
    end_of,
)


class CopyEnded(Exception):
    """The agent ended the copy before all of it was written. `CopyStream.finish` tells why."""


class CopyStream:
    """One copy after its acceptance. Only `read`, or only `write` and then `end`; then `finish`."""

    def __init__(self, connection: AgentConnection) -> None:
        self._connection = connection
        self._frames = ExecFrames()
        self._credit = WINDOW_BYTES
        self._arrived = bytearray()
        self._end: Json | None = None
        self._take(connection.rest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.__exit__(kind, error, trace)

    def read(self, size: int) -> bytes:
        """At most so many bytes; b"" at the end of the archive."""
        while not self._arrived and self._end is None:
            self._receive()
        data = bytes(self._arrived[:size])
        del self._arrived[:size]
        return data

    def write(self, data: bytes) -> int:
        """Send all of it; waits for credit. Raises CopyEnded when the agent has ended the copy."""
        left = memoryview(data)
        while left:
            while not self._credit and self._end is None:
                self._receive()
            piece = left[: min(self._credit, INPUT_BYTES)]
            self._credit -= len(piece)
            self._send(encoded(FrameKind.INPUT, bytes(piece)))
            left = left[len(piece) :]
        return len(data)

    def end(self) -> None:
        """All of the archive is written."""
        self._send(encoded(FrameKind.INPUT_END))

    def finish(self) -> None:
        """Wait for the end of the copy; raises CommandFailed when it failed. What is left to read is dropped."""
        while self._end is None:
            self._arrived.clear()
            self._receive()
        if "error" in self._end:
            raise_for_error(self._end)

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            if self._end is not None:
                raise CopyEnded
            poll = select.poll()
            poll.register(self._connection.fileno(), select.POLLIN | select.POLLOUT)
            ready = dict(poll.poll(TAKEN_SECS * 1000))
            if not ready:
                raise broken(f"it took nothing within {TAKEN_SECS} s")
            events = ready[self._connection.fileno()]
            if events & ~select.POLLOUT:
                self._take(self._connection.receive_bytes())
            if events & select.POLLOUT:
                left = left[self._connection.send_some(left) :]

    def _receive(self) -> None:
        """Wait without a limit: a disk may be slow, and an agent that ends closes the connection."""
        select.select([self._connection.fileno()], [], [])
        self._take(self._connection.receive_bytes())

    def _take(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                if frame.kind is FrameKind.EXIT:
                    self._end = end_of(frame)
                elif frame.kind is FrameKind.CREDIT:
                    self._credit += credit_of(frame)
                elif frame.kind is FrameKind.STDOUT:
                    self._arrived += frame.payload
            if self._frames.error is not None:
                raise self._frames.error
        except BadFrame as bad:
            raise broken(str(bad)) from bad
