"""When an address was last given out is known for as long as it matters, and never believed to be longer ago."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syntra.networking.dns.given import LastGiven


def test_the_last_time_of_any_of_them_counts() -> None:
    given_out: LastGiven[str] = LastGiven(capacity=10)
    assert given_out.last(["a"]) is None
    given_out.note(["a", "b"], 1.0, keep_secs=5)
    given_out.note(["b"], 2.0, keep_secs=5)
    assert (given_out.last(["a"]), given_out.last(["b"]), given_out.last(["a", "b", "c"])) == (1.0, 2.0, 2.0)
    assert given_out.last([]) is None


def test_what_nobody_remembers_is_forgotten() -> None:
    given_out: LastGiven[str] = LastGiven(capacity=10)
    given_out.note(["a"], 1.0, keep_secs=5)
    given_out.note(["b"], 6.0, keep_secs=5)
    assert given_out.last(["a"]) == 1.0
    given_out.note(["b"], 6.1, keep_secs=5)
    assert given_out.last(["a"]) is None
    assert len(given_out) == 1


def test_one_that_had_to_make_room_counts_as_given_when_the_last_of_those_was() -> None:
    given_out: LastGiven[str] = LastGiven(capacity=2)
    for number, address in enumerate("abcd"):
        given_out.note([address], float(number), keep_secs=60)
    assert len(given_out) == 2
    assert (given_out.last(["a"]), given_out.last(["b"]), given_out.last(["d"])) == (1.0, 1.0, 3.0)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 3)), max_size=60), st.integers(1, 12))
def test_nothing_that_may_be_remembered_is_believed_to_be_older(asked: list[tuple[int, float]], capacity: int) -> None:
    given_out: LastGiven[int] = LastGiven(capacity=capacity)
    true: dict[int, float] = {}
    now = 0.0
    for address, pause in asked:
        now += pause
        given_out.note([address], now, keep_secs=5)
        true[address] = now
        assert len(given_out) <= capacity
        for known, then in true.items():
            believed = given_out.last([known])
            assert then < now - 5 or (believed is not None and believed >= then)
