"""Frames and log lines under every cut and every early end."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.errors import EngineProtocolError, StreamBroken
from syntra.runtime.docker.frames import (
    MAX_FRAME_BYTES,
    MAX_LINE_BYTES,
    PARTIAL_BYTES,
    Frame,
    FrameType,
    LineJoiner,
    MultiplexedFrames,
    RawFrames,
    demultiplexer,
)
from syntra.runtime.docker.records import LogRecord, Stream
from tests.runtime.docker.cuts import every_cut

T1, T2, T3 = (f"2024-05-01T12:00:0{n}.000000001Z" for n in (1, 2, 3))


def frame(code: int, payload: bytes) -> bytes:
    return bytes([code, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def out(payload: bytes) -> Frame:
    return Frame(type=FrameType.STDOUT, payload=payload)


def err(payload: bytes) -> Frame:
    return Frame(type=FrameType.STDERR, payload=payload)


def stamped(stamp: str, content: bytes) -> bytes:
    return stamp.encode() + b" " + content


def test_frames_come_out_whole_however_the_bytes_are_cut() -> None:
    raw = frame(1, b"one") + frame(2, b"") + frame(2, b"two\n") + frame(0, b"in")
    expected = [out(b"one"), err(b""), err(b"two\n"), Frame(type=FrameType.STDIN, payload=b"in")]
    for parts in every_cut(raw):
        decoder = MultiplexedFrames()
        assert [item for part in parts for item in decoder.feed(part)] == expected
        decoder.feed_eof()
        assert decoder.error is None


def test_an_end_inside_a_frame_is_a_broken_stream() -> None:
    raw = frame(1, b"one") + frame(2, b"two")
    boundaries = {0, 8 + 3, len(raw)}
    for index in range(len(raw) + 1):
        decoder = MultiplexedFrames()
        decoder.feed(raw[:index])
        decoder.feed_eof()
        assert (decoder.error is None) is (index in boundaries)
        assert decoder.error is None or isinstance(decoder.error, StreamBroken)


def test_an_error_of_the_engine_in_band_is_no_output() -> None:
    raw = frame(1, b"one") + frame(3, b"log driver gone") + frame(1, b"never")
    for parts in every_cut(raw):
        decoder = MultiplexedFrames()
        assert [item for part in parts for item in decoder.feed(part)] == [out(b"one")]
        assert isinstance(decoder.error, StreamBroken)
        assert "log driver gone" in str(decoder.error)


@pytest.mark.parametrize(
    "header",
    [b"\x04\0\0\0\0\0\0\x01", b"\x01\x01\0\0\0\0\0\x01", b"\x01\0\0\0" + (MAX_FRAME_BYTES + 1).to_bytes(4, "big")],
)
def test_a_malformed_header_is_an_error_after_the_frames_before_it(header: bytes) -> None:
    for parts in every_cut(frame(1, b"ok") + header):
        decoder = MultiplexedFrames()
        assert [item for part in parts for item in decoder.feed(part)] == [out(b"ok")]
        assert isinstance(decoder.error, EngineProtocolError)


def test_a_terminal_passes_bytes_through_and_may_end_anywhere() -> None:
    decoder = demultiplexer(tty=True)
    assert isinstance(decoder, RawFrames)
    assert decoder.feed(b"\x01\0\0\0raw") == [out(b"\x01\0\0\0raw")]
    decoder.feed_eof()
    assert decoder.error is None


def test_pieces_of_one_line_become_one_record_with_the_first_timestamp() -> None:
    joiner = LineJoiner(tty=False)
    assert joiner.feed(out(stamped(T1, b"a" * PARTIAL_BYTES))) == []
    pending = joiner.pending_since
    assert pending == T1
    interleaved = joiner.feed(err(stamped(T2, b"other\n")))
    assert interleaved == [LogRecord(timestamp=T2, stream=Stream.STDERR, message="other")]
    (record,) = joiner.feed(out(stamped(T3, b"b\n")))
    assert record == LogRecord(timestamp=T1, stream=Stream.STDOUT, message="a" * PARTIAL_BYTES + "b")
    assert joiner.pending_since is None
    assert joiner.flush() == []


def test_empty_lines_and_carriage_returns_of_programs_are_kept() -> None:
    joiner = LineJoiner(tty=False)
    assert joiner.feed(out(stamped(T1, b"\n")))[0].message == ""
    assert joiner.feed(out(stamped(T2, b"dos\r\n")))[0].message == "dos\r"


def test_a_character_cut_between_pieces_is_whole_in_the_record() -> None:
    joiner = LineJoiner(tty=False)
    snow = "☃".encode()
    joiner.feed(out(stamped(T1, snow[:1])))
    (record,) = joiner.feed(out(stamped(T2, snow[1:] + b"\n")))
    assert record.message == "☃"


def test_the_last_line_without_newline_is_flushed() -> None:
    joiner = LineJoiner(tty=False)
    joiner.feed(out(stamped(T1, b"half")))
    joiner.feed(err(stamped(T2, b"other half")))
    assert [(record.stream, record.message) for record in joiner.flush()] == [
        (Stream.STDOUT, "half"),
        (Stream.STDERR, "other half"),
    ]
    assert joiner.flush() == []


def test_a_line_beyond_the_bound_is_cut_and_says_so() -> None:
    joiner = LineJoiner(tty=False)
    for _ in range(MAX_LINE_BYTES // PARTIAL_BYTES + 3):
        assert joiner.feed(out(stamped(T1, b"x" * PARTIAL_BYTES))) == []
    (record,) = joiner.feed(out(stamped(T1, b"end\n")))
    assert record.truncated
    assert record.message == "x" * MAX_LINE_BYTES
    (record,) = joiner.feed(out(stamped(T2, b"next\n")))
    assert (record.message, record.truncated) == ("next", False)


def test_a_frame_without_timestamp_is_taken_as_it_is() -> None:
    (record,) = LineJoiner(tty=False).feed(out(b"plain\n"))
    assert (record.timestamp, record.message) == ("", "plain")


def terminal(parts: list[bytes]) -> list[LogRecord]:
    joiner = LineJoiner(tty=True)
    return [record for part in parts for record in joiner.feed(out(part))] + joiner.flush()


def test_lines_of_a_terminal_lose_their_carriage_return_however_they_are_cut() -> None:
    raw = stamped(T1, b"one\r\n") + stamped(T2, b"\r\n") + stamped(T3, b"50%\r100%\r\n") + stamped(T3, b"$ ")
    for parts in every_cut(raw):
        assert [(record.timestamp, record.message) for record in terminal(parts)] == [
            (T1, "one"),
            (T2, ""),
            (T3, "50%\r100%"),
            (T3, "$ "),
        ]


def test_a_long_line_of_a_terminal_loses_the_timestamps_of_its_pieces() -> None:
    pieces = stamped(T1, b"a" * PARTIAL_BYTES) + stamped(T2, b"b" * PARTIAL_BYTES) + stamped(T3, b"c\r\n")
    for parts in ([pieces], [pieces[i : i + 1000] for i in range(0, len(pieces), 1000)]):
        (record,) = terminal(parts)
        assert record.timestamp == T1
        assert record.message == "a" * PARTIAL_BYTES + "b" * PARTIAL_BYTES + "c"


def test_a_timestamp_that_a_program_wrote_is_not_taken_out() -> None:
    (record,) = terminal([stamped(T1, stamped(T2, b"mine\r\n"))])
    assert record.message == f"{T2} mine"


def test_a_terminal_line_beyond_the_bound_is_cut_and_says_so() -> None:
    first, second = terminal([stamped(T1, b"x" * (2 * MAX_LINE_BYTES)), b"\r\n" + stamped(T2, b"next\r\n")])
    assert first.truncated
    assert first.message == "x" * MAX_LINE_BYTES
    assert (second.message, second.truncated) == ("next", False)
