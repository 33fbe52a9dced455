"""What bringing the proxy up amounts to: every combination of what may be there."""

from __future__ import annotations

from itertools import product

import pytest

from syntra.agent.proxy.decision import Action, Decision, Seen, decide

KINDS = tuple(product((True, False), repeat=2))
PLACES = [()] + [(kind,) for kind in KINDS] + list(product(KINDS, repeat=2)) + list(product(KINDS, repeat=3))


def seen(kinds: tuple[tuple[bool, bool], ...]) -> list[Seen]:
    return [Seen(id=f"c{number}", fits=fits, running=running) for number, (fits, running) in enumerate(kinds)]


def after(found: list[Seen], decision: Decision) -> list[Seen]:
    """What is there when the decision has been carried out."""
    if decision.action is Action.ADOPT:
        return found
    return [Seen(id=decision.keep or "new", fits=True, running=True)]


@pytest.mark.parametrize("kinds", PLACES)
@pytest.mark.parametrize("foreign", [False, True])
def test_carried_out_once_there_is_nothing_left_to_do(kinds: tuple[tuple[bool, bool], ...], foreign: bool) -> None:
    found = seen(kinds)
    decision = decide(found, foreign=foreign)
    again = decide(after(found, decision), foreign=foreign and decision.action is Action.ADOPT)
    assert again.action is (Action.ADOPT if decision.action is Action.ADOPT else Action.NOTHING)
    assert again.old == ()


@pytest.mark.parametrize("kinds", PLACES)
def test_what_fits_and_runs_is_never_touched(kinds: tuple[tuple[bool, bool], ...]) -> None:
    decision = decide(seen(kinds), foreign=False)
    serves = any(fits and running for fits, running in kinds)
    assert (decision.action is Action.NOTHING) == serves
    assert decision.keep not in decision.old
    assert set(decision.old) | {decision.keep} >= {item.id for item in seen(kinds)}


@pytest.mark.parametrize(
    ("kinds", "foreign", "expected"),
    [
        ((), False, Decision(action=Action.START)),
        ((), True, Decision(action=Action.ADOPT)),
        (((True, False),), False, Decision(action=Action.START, keep="c0")),
        (((True, False),), True, Decision(action=Action.ADOPT)),
        (((False, False),), False, Decision(action=Action.START, old=("c0",))),
        (((False, True),), False, Decision(action=Action.REPLACE, old=("c0",))),
        (((False, True), (True, False)), False, Decision(action=Action.REPLACE, keep="c1", old=("c0",))),
        (((False, False), (True, True)), False, Decision(action=Action.NOTHING, keep="c1", old=("c0",))),
    ],
)
def test_by_example(kinds: tuple[tuple[bool, bool], ...], foreign: bool, expected: Decision) -> None:
    assert decide(seen(kinds), foreign=foreign) == expected
