"""The binary form of an attached exec on the local socket, without I/O: frames in both directions.

A frame is one byte for its type, four for the length of its payload (big-endian), and the payload. Output is bytes that
may be no text, and JSON with base64 would cost a third more and most of the processor time of a backup.
"""

from __future__ import annotations

import json
import struct
from enum import Enum

from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

HEADER_BYTES = 5
MAX_PAYLOAD_BYTES = 1024 * 1024
"""Bound of one frame's payload; both sides send less."""
WINDOW_BYTES = 1024 * 1024
"""How much input may be under way: sent by the client and not yet taken by the command. Each CREDIT adds to it."""
INPUT_BYTES = 128 * 1024
"""Most input in one frame."""

_HEADER = struct.Struct(">BI")
_SIZE = struct.Struct(">HH")
_COUNT = struct.Struct(">I")


class FrameKind(Enum):
    """INPUT, INPUT_END and RESIZE go to the agent, the others to the client."""

    INPUT = 0
    STDOUT = 1
    STDERR = 2
    INPUT_END = 3
    RESIZE = 4
    CREDIT = 5
    EXIT = 6


_KINDS = {kind.value: kind for kind in FrameKind}


class BadFrame(AgentError):
    """The other side sent what is no frame, or not one of this place."""

    code = "MALFORMED"


@frozen
class ExecFrame:
    """One frame."""

    kind: FrameKind
    payload: bytes


class ExecFrames:
    """Bytes to frames, of one direction. `feed` never raises: complete frames are returned, `error` tells the rest."""

    def __init__(self) -> None:
        self.error: BadFrame | None = None
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[ExecFrame]:
        """The frames that are complete now; after an error nothing can be understood any more."""
        frames: list[ExecFrame] = []
        if self.error is not None:
            return frames
        # Mostly nothing is left from before; then the frames are taken from `data` itself.
        is_fresh = not self._buffer
        if not is_fresh:
            self._buffer += data
        start = 0
        with memoryview(data if is_fresh else self._buffer) as view:
            while len(view) - start >= HEADER_BYTES:
                code, length = _HEADER.unpack_from(view, start)
                kind = _KINDS.get(code)
                if kind is None:
                    self.error = BadFrame(f"cannot read an exec stream: {code} is no type of frame")
                    break
                if length > MAX_PAYLOAD_BYTES:
                    self.error = BadFrame(f"cannot read an exec stream: a frame has over {MAX_PAYLOAD_BYTES} bytes")
                    break
                end = start + HEADER_BYTES + length
                if end > len(view):
                    break
                frames.append(ExecFrame(kind=kind, payload=bytes(view[start + HEADER_BYTES : end])))
                start = end
            if is_fresh:
                self._buffer += view[start:]
        if not is_fresh:
            del self._buffer[:start]
        return frames


def encoded(kind: FrameKind, *pieces: bytes) -> bytes:
    """One frame as it is sent; its payload is the pieces in a row."""
    return b"".join((_HEADER.pack(kind.value, sum(map(len, pieces))), *pieces))


def resize(rows: int, columns: int) -> bytes:
    """A RESIZE frame."""
    return encoded(FrameKind.RESIZE, _SIZE.pack(rows, columns))


def size_of(frame: ExecFrame) -> tuple[int, int]:
    """Rows and columns of a RESIZE frame."""
    rows, columns = _unpacked(_SIZE, frame)
    return rows, columns


def credit(count: int) -> bytes:
    """A CREDIT frame: the command has taken so many bytes of input."""
    return encoded(FrameKind.CREDIT, _COUNT.pack(count))


def credit_of(frame: ExecFrame) -> int:
    """The bytes of a CREDIT frame."""
    return _unpacked(_COUNT, frame)[0]


def exited(exit_code: int) -> bytes:
    """The EXIT frame of a command that ended."""
    return encoded(FrameKind.EXIT, json.dumps({"exit_code": exit_code}).encode())


def failed(code: str, message: str) -> bytes:
    """The EXIT frame where no exit code is known."""
    return encoded(FrameKind.EXIT, json.dumps({"error": {"code": code, "message": message}}).encode())


def end_of(frame: ExecFrame) -> dict[str, object]:
    """What an EXIT frame says: `exit_code`, or `error` with `code` and `message`."""
    try:
        value = json.loads(frame.payload)
    except (ValueError, RecursionError) as broken:
        raise BadFrame("cannot read an exec stream: its end is not JSON") from broken
    if not isinstance(value, dict):
        raise BadFrame("cannot read an exec stream: its end is not an object")
    return value


def _unpacked(form: struct.Struct, frame: ExecFrame) -> tuple[int, ...]:
    if len(frame.payload) != form.size:
        raise BadFrame(f"cannot read an exec stream: a {frame.kind.name} frame has {len(frame.payload)} bytes")
    return form.unpack(frame.payload)
