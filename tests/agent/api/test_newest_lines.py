"""The newest lines: by time, by count, by length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syntra.agent.api.log_streams import NewestLines
from syntra.model.status import LogLine


def line(second: int, text: str = "x") -> LogLine:
    return LogLine(timestamp=f"2026-01-01T00:00:{second:02}.000000000Z", stream="stdout", message=text)


@given(st.lists(st.integers(0, 59), max_size=40), st.integers(0, 10))
def test_the_last_by_time_stay_and_lines_of_one_moment_keep_their_order(seconds: list[int], count: int) -> None:
    lines = [line(second, str(number)) for number, second in enumerate(seconds)]
    newest = NewestLines(count)
    for one in lines:
        newest.add(one)
    wanted = sorted(lines, key=lambda each: each.timestamp)[-count:] if count else []
    assert [one for _, one in newest.taken()] == wanted
    assert (list(newest.taken()), newest.cut) == ([], None)


def test_too_long_lines_cost_the_oldest_and_that_can_be_told() -> None:
    newest = NewestLines(100, chars=10)
    for second in range(5):
        newest.add(line(second, "four"))
    assert newest.cut == line(2, "four")
    assert list(newest.taken()) == [(0, line(3, "four")), (0, line(4, "four"))]


def test_one_line_stays_however_long_it_is() -> None:
    newest = NewestLines(2, chars=3)
    newest.add(line(1, "longer than all"))
    assert list(newest.taken()) == [(0, line(1, "longer than all"))]
