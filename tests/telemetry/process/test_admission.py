"""The budget of memory for requests in progress."""

from __future__ import annotations

import threading

import pytest

from syntra.telemetry.intake import Overloaded
from syntra.telemetry.process.admission import MemoryBudget


def test_bytes_are_reserved_until_the_context_ends() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(60):
        assert budget.reserved == 60
        with pytest.raises(Overloaded) as refused:
            budget.reserve(41)
        assert refused.value.retry_secs > 0
        with budget.reserve(40):
            assert budget.reserved == 100
    assert (budget.reserved, budget.refused) == (0, 1)


def test_bytes_come_back_after_an_error() -> None:
    budget = MemoryBudget(100)
    with pytest.raises(ZeroDivisionError), budget.reserve(60):
        raise ZeroDivisionError
    assert budget.reserved == 0


def test_a_request_larger_than_the_budget_gets_in_alone() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(1), pytest.raises(Overloaded):
        budget.reserve(500)
    with budget.reserve(500):
        assert budget.reserved == 500
        with pytest.raises(Overloaded):
            budget.reserve(1)
    with budget.reserve(1):
        assert budget.reserved == 1


def test_threads_never_have_more_than_the_budget_together() -> None:
    budget = MemoryBudget(10)
    start = threading.Barrier(8)
    most: list[int] = []
    refused: list[int] = []

    def work() -> None:
        start.wait()
        peak = misses = 0
        for _ in range(2000):
            try:
                with budget.reserve(3):
                    peak = max(peak, budget.reserved)
            except Overloaded:
                misses += 1
        most.append(peak)
        refused.append(misses)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 3 <= max(most) <= 10
    assert budget.reserved == 0
    assert budget.refused == sum(refused)
