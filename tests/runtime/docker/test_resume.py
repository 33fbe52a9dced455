"""Reading a log on without gaps and without doubles."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.records import LogRecord, Stream
from syntra.runtime.docker.resume import LogResume, fixed_width, since_parameter

T1, T2, T3 = (f"2024-05-01T12:00:0{n}.000000001Z" for n in (1, 2, 3))


def record(timestamp: str, message: str, stream: Stream = Stream.STDOUT) -> LogRecord:
    return LogRecord(timestamp=timestamp, stream=stream, message=message)


def test_a_second_reading_yields_only_what_is_new() -> None:
    resume = LogResume()
    since = resume.since
    assert since is None
    first = [record(T1, "a"), record(T2, "b"), record(T2, "c")]
    assert [item for item in first if resume.admit(item)] == first
    resume.hold(None)
    assert resume.since == T2
    again = [record(T2, "b"), record(T2, "c"), record(T2, "d"), record(T3, "b")]
    assert [item.message for item in again if resume.admit(item)] == ["d", "b"]
    assert resume.last_timestamp == T3


def test_equal_lines_within_one_reading_are_kept() -> None:
    resume = LogResume()
    assert resume.admit(record(T1, "same"))
    assert resume.admit(record(T1, "same"))


def test_a_stored_checkpoint_drops_everything_up_to_it() -> None:
    resume = LogResume(T2)
    assert not resume.admit(record(T1, "a"))
    assert not resume.admit(record(T2, "b"))
    assert resume.admit(record(T3, "c"))


def test_a_stored_checkpoint_with_messages_drops_only_those() -> None:
    resume = LogResume(T2, ["b"])
    assert not resume.admit(record(T2, "b"))
    assert resume.admit(record(T2, "c"))


def test_an_unfinished_line_is_read_again_from_its_beginning() -> None:
    resume = LogResume()
    resume.admit(record(T1, "a"))
    resume.admit(record(T3, "loud", Stream.STDERR))
    resume.hold(T2)  # a line on stdout had begun before stderr's line
    assert resume.since == T2
    assert resume.admit(record(T2, "long line"))
    assert not resume.admit(record(T3, "loud", Stream.STDERR))


def test_after_the_end_of_a_run_everything_is_new() -> None:
    resume = LogResume()
    resume.continue_after("2024-05-01T12:00:02.5Z")
    assert resume.since == "2024-05-01T12:00:02.5Z"
    assert resume.admit(record(T3, "new"))
    assert resume.since == T3


def test_where_times_are_whole_seconds_the_same_line_of_the_next_run_is_kept() -> None:
    resume = LogResume()
    second = "2024-05-01T12:00:02Z"
    assert resume.admit(record(second, "serving"))
    assert resume.is_coarse
    resume.hold(None)
    assert not resume.admit(record(second, "serving")), "a connection that dropped: it may be the same line"
    resume.continue_after("2024-05-01T12:00:02.7Z")
    assert resume.since == "2024-05-01T12:00:02.7Z"
    assert resume.admit(record(second, "serving"))
    assert not LogResume().is_coarse
    exact = LogResume()
    assert exact.admit(record(T3, "a"))
    assert not exact.is_coarse


def test_timestamps_become_seconds_and_nanoseconds() -> None:
    assert since_parameter("1970-01-01T00:01:00.000000001Z") == "60.000000001"
    assert since_parameter("1970-01-01T01:01:00.5+01:00") == "60.500000000"
    assert since_parameter("1970-01-01T00:01:00Z") == "60.000000000"
    assert fixed_width("1970-01-01T00:01:00.5Z") == "1970-01-01T00:01:00.500000000Z"
    assert fixed_width("other") == "other"
    with pytest.raises(ValueError, match="not RFC 3339"):
        since_parameter("yesterday")
