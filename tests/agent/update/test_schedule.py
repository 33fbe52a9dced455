"""The times of checks, and the window for installing."""

from __future__ import annotations

import pytest

from syntra.agent.update.schedule import is_open, secs_to_next_check


def test_checks_are_spread_around_the_interval() -> None:
    assert secs_to_next_check(1000, 0.0, is_first=False) == 900
    assert secs_to_next_check(1000, 0.5, is_first=False) == pytest.approx(1000)
    assert secs_to_next_check(1000, 0.999, is_first=False) < 1100
    assert 0 <= secs_to_next_check(2400, 0.5, is_first=True) <= 100


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("", [(0, 0), (12, 30)], []),
        ("02:00-05:00", [(2, 0), (4, 59)], [(1, 59), (5, 0), (23, 0)]),
        ("22:30-04:00", [(22, 30), (23, 59), (0, 0), (3, 59)], [(22, 29), (4, 0), (12, 0)]),
    ],
)
def test_a_window_may_pass_midnight(window: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]) -> None:
    assert all(is_open(window, *at) for at in inside)
    assert not any(is_open(window, *at) for at in outside)
