"""Delays grow, stay under their ceilings, and are jittered from the first on."""

from __future__ import annotations

import itertools
import random

import pytest

from syntra.utils.backoff import delays
from syntra.utils.errors import AgentError


class Highest:
    def random(self) -> float:
        return 1.0


def test_ceilings_double_up_to_the_maximum() -> None:
    ceilings = list(itertools.islice(delays(first=1, maximum=60, rng=Highest()), 9))
    assert ceilings == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_every_delay_is_jittered_over_its_whole_range() -> None:
    rng = random.Random(7)
    runs = [list(itertools.islice(delays(first=1, maximum=60, rng=rng), 8)) for _ in range(300)]
    for index, ceiling in enumerate([1, 2, 4, 8, 16, 32, 60, 60]):
        column = [run[index] for run in runs]
        assert 0 <= min(column) < ceiling * 0.1 and ceiling * 0.9 < max(column) <= ceiling


def test_it_never_ends_or_overflows() -> None:
    assert next(itertools.islice(delays(first=1e-9, maximum=1e308, rng=Highest()), 5000, None)) == 1e308


@pytest.mark.parametrize(("first", "maximum"), [(0, 1), (-1, 1), (2, 1), (1, float("inf")), (float("nan"), 1)])
def test_settings_without_a_meaning_are_refused_at_the_call(first: float, maximum: float) -> None:
    with pytest.raises(AgentError, match="cannot compute backoff"):
        delays(first=first, maximum=maximum, rng=Highest())
