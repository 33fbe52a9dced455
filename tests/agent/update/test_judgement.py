"""When a version on trial is kept, and when it ends itself."""

from __future__ import annotations

import pytest

from syntra.agent.update.judgement import Condition, Judgement, Verdict
from syntra.update.settle import NO_CONNECTION, NO_ENGINE

GOOD = Condition(engine_answers=True, is_connected=True)
ALONE = Condition(engine_answers=True, is_connected=False)
NO_DOCKER = Condition(engine_answers=False, is_connected=True)


def judgement(*, needs_connection: bool = True) -> Judgement:
    return Judgement(needs_connection=needs_connection, confirm_secs=10, timeout_secs=60, began=100)


def test_it_is_kept_after_the_time_in_order_and_not_before() -> None:
    one = judgement()
    assert [one.observe(GOOD, 100 + secs) for secs in (0, 5, 9.9)] == [Verdict.WAIT] * 3
    assert one.observe(GOOD, 110) is Verdict.KEEP


@pytest.mark.parametrize(("bad", "reason"), [(ALONE, NO_CONNECTION), (NO_DOCKER, NO_ENGINE)])
def test_an_interruption_begins_the_time_again(bad: Condition, reason: str) -> None:
    one = judgement()
    one.observe(GOOD, 100)
    assert one.observe(bad, 109) is Verdict.WAIT
    assert one.reason == reason
    assert one.observe(GOOD, 111) is Verdict.WAIT
    assert one.observe(GOOD, 120.9) is Verdict.WAIT
    assert one.observe(GOOD, 121) is Verdict.KEEP


def test_without_a_connection_before_none_is_needed() -> None:
    one = judgement(needs_connection=False)
    one.observe(ALONE, 100)
    assert one.observe(ALONE, 110) is Verdict.KEEP


def test_it_ends_at_the_deadline_but_not_while_it_is_in_order() -> None:
    one = judgement()
    assert one.observe(ALONE, 159.9) is Verdict.WAIT
    assert one.observe(GOOD, 160) is Verdict.WAIT
    assert one.observe(GOOD, 170) is Verdict.KEEP
    assert one.observe(ALONE, 171) is Verdict.END
