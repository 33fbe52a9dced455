"""The frames of an attached exec: whole, byte by byte, and cut at every index."""

from __future__ import annotations

import pytest

from syntra.model import exec_frames
from syntra.model.exec_frames import (
    MAX_PAYLOAD_BYTES,
    BadFrame,
    ExecFrame,
    ExecFrames,
    FrameKind,
    credit_of,
    encoded,
    end_of,
    size_of,
)

FRAMES = [
    ExecFrame(kind=FrameKind.INPUT, payload=b"abc"),
    ExecFrame(kind=FrameKind.STDOUT, payload=bytes(range(256))),
    ExecFrame(kind=FrameKind.STDERR, payload=b"\0"),
    ExecFrame(kind=FrameKind.INPUT_END, payload=b""),
    ExecFrame(kind=FrameKind.RESIZE, payload=b"\0\x18\0\x50"),
    ExecFrame(kind=FrameKind.CREDIT, payload=b"\0\2\0\0"),
    ExecFrame(kind=FrameKind.EXIT, payload=b'{"exit_code": 7}'),
]
WIRE = b"".join(encoded(frame.kind, frame.payload) for frame in FRAMES)


@pytest.mark.parametrize("cut", range(len(WIRE) + 1))
def test_frames_are_the_same_wherever_the_bytes_are_cut(cut: int) -> None:
    decoder = ExecFrames()
    assert decoder.feed(WIRE[:cut]) + decoder.feed(WIRE[cut:]) == FRAMES
    assert decoder.error is None


def test_frames_come_byte_by_byte_as_soon_as_they_are_complete() -> None:
    decoder = ExecFrames()
    came = [(frame, at) for at in range(len(WIRE)) for frame in decoder.feed(WIRE[at : at + 1])]
    assert [frame for frame, _ in came] == FRAMES
    length = 0
    for frame, at in came:
        length += len(encoded(frame.kind, frame.payload))
        assert at == length - 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"\x07\0\0\0\0", "7 is no type of frame"),
        (b"\xff\0\0\0\1x", "255 is no type of frame"),
        (b"\x01" + (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big"), "over 1048576 bytes"),
    ],
)
def test_what_came_before_a_broken_frame_is_not_lost(bad: bytes, said: str) -> None:
    decoder = ExecFrames()
    assert decoder.feed(WIRE + bad) == FRAMES
    assert said in str(decoder.error)
    assert decoder.feed(WIRE) == []


def test_the_longest_frame_is_taken() -> None:
    [frame] = ExecFrames().feed(encoded(FrameKind.STDOUT, b"x" * MAX_PAYLOAD_BYTES))
    assert len(frame.payload) == MAX_PAYLOAD_BYTES


def test_what_a_frame_says_is_read_back() -> None:
    decoder = ExecFrames()
    wire = exec_frames.resize(24, 80) + exec_frames.credit(131072)
    wire += exec_frames.exited(137) + exec_frames.failed("EXEC_TIMEOUT", "too long")
    size, credit, exited, failed = decoder.feed(wire)
    assert size_of(size) == (24, 80)
    assert credit_of(credit) == 131072
    assert end_of(exited) == {"exit_code": 137}
    assert end_of(failed) == {"error": {"code": "EXEC_TIMEOUT", "message": "too long"}}


def test_a_payload_of_another_form_is_a_bad_frame() -> None:
    for length in (0, 3, 5):
        with pytest.raises(BadFrame, match=f"a RESIZE frame has {length} bytes"):
            size_of(ExecFrame(kind=FrameKind.RESIZE, payload=b"x" * length))
        with pytest.raises(BadFrame, match=f"a CREDIT frame has {length} bytes"):
            credit_of(ExecFrame(kind=FrameKind.CREDIT, payload=b"x" * length))
    for payload in (b"", b"{", b"[]", b"7", b"[" * 100_000, b"\xff"):
        with pytest.raises(BadFrame):
            end_of(ExecFrame(kind=FrameKind.EXIT, payload=payload))
