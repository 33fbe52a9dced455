"""Lines that the engine sends twice in one stream."""

from __future__ import annotations

import itertools
import random

import pytest

from syntra.telemetry.collect.logs.repeats import KEPT_CHUNKS, Repeats


def kept(chunks: list[list[int]]) -> list[int]:
    """The times of the lines that are left. No two lines have one text."""
    repeats = Repeats()
    numbers = itertools.count()
    found: list[int] = []
    for chunk in chunks:
        gone = repeats.find(chunk, [f"line {next(numbers)}\n" for _ in chunk])
        found += [time_ns for index, time_ns in enumerate(chunk) if index not in gone]
    return found


def test_lines_that_come_again_at_a_rotation_are_left_out_wherever_the_chunks_are_cut() -> None:
    sent = [1, 2, 3, 4, 5, 3, 4, 5, 6, 7]
    for first in range(len(sent) + 1):
        for second in range(first, len(sent) + 1):
            chunks = [sent[:first], sent[first:second], sent[second:]]
            assert kept(chunks) == [1, 2, 3, 4, 5, 6, 7], chunks


def test_several_lines_of_one_moment_stay_and_come_again_as_often() -> None:
    assert kept([[5, 5], [5], [6]]) == [5, 5, 5, 6]
    assert kept([[4, 5, 5, 5, 6], [5, 5, 5, 6], [7]]) == [4, 5, 5, 5, 6, 7]


def test_lines_after_the_clock_was_set_back_stay() -> None:
    assert kept([[100, 110, 120], [50, 51, 51, 60], [61, 130]]) == [100, 110, 120, 50, 51, 51, 60, 61, 130]


def test_two_rotations_in_a_row() -> None:
    assert kept([[1, 2, 3], [2, 3, 4, 5], [4, 5, 6], [6, 7]]) == [1, 2, 3, 4, 5, 6, 6, 7]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_repeated_once_comes_once(seed: int) -> None:
    draw = random.Random(seed)
    times = sorted(draw.sample(range(10_000), 300))
    sent: list[int] = []
    for place in range(0, 300, 50):
        # Not the last line alone.
        sent += times[max(0, place - draw.choice((0, *range(2, 30)))) : place] + times[place : place + 50]
    chunks = []
    while sent:
        size = draw.randrange(1, 40)
        chunks.append(sent[:size])
        sent = sent[size:]
    assert kept(chunks) == times


def test_it_remembers_a_bounded_number_of_chunks() -> None:
    repeats = Repeats()
    for number in range(1, KEPT_CHUNKS + 2):
        repeats.find([number], ["a\n"])
    assert repeats.find([1], ["a\n"]) == frozenset(), "forgotten, so it counts as new"
    assert repeats.find([2, 3], ["a\n", "b\n"]) == {0, 1}


NANOSECONDS, MICROSECONDS = 1_000_001, 1_001_000


@pytest.mark.parametrize(
    ("time_ns", "texts", "gone"),
    [
        (NANOSECONDS, ["same\n", "same\n"], {1}),
        (NANOSECONDS, ["same\n", "same\n", "same\n"], {1, 2}),
        (NANOSECONDS, ["one\n", "two\n"], set()),
        (NANOSECONDS, ["x" * 16, "x" * 16], set()),  # parts of one line have its time
        (MICROSECONDS, ["same\n", "same\n"], set()),  # journald's
    ],
)
def test_the_last_line_alone_comes_once_more(time_ns: int, texts: list[str], gone: set[int]) -> None:
    assert Repeats().find([time_ns] * len(texts), texts) == gone
    repeats = Repeats()
    found = set()
    for index, text in enumerate(texts):
        found |= {index for _ in repeats.find([time_ns], [text])}
    assert found == gone, "in chunks of their own"
