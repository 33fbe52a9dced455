"""The memory of the updater, whole and damaged."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from syntra.update.state import REJECTED_MAX, Outcome, UpdateState
from syntra.update.state_file import change_state, read_state

OUTCOME = Outcome(result="updated", from_version="1.2.0", to_version="1.3.0", reason="", at=5.0)
WHOLE = UpdateState(
    highest={"stable": "1.3.0", "beta": "1.4.0-beta.2"},
    installed="1.3.0",
    keys_serial=7,
    latest_time=1e9,
    checked_at=2e9,
    rejected={"1.2.9": "it crashed"},
    phase="preparing 1.4.0",
    outcome=OUTCOME,
    is_reported=False,
)


def test_it_is_read_as_it_was_written() -> None:
    assert UpdateState.decode(WHOLE.encode()) == WHOLE
    assert UpdateState.decode(UpdateState().encode()) == UpdateState()


def test_cut_anywhere_it_is_empty_and_never_an_error() -> None:
    data = WHOLE.encode()
    for cut in range(len(data) - 2):
        assert UpdateState.decode(data[:cut]) == UpdateState()


@pytest.mark.parametrize("value", [None, [], "x", -1, 1e400, True, {"a": {}}, {"stable": "../1"}, "[" * 2000])
@pytest.mark.parametrize("field", sorted(vars(WHOLE)))
def test_a_field_of_another_type_is_dropped(field: str, value: object) -> None:
    document = {**json.loads(WHOLE.encode()), field: value}
    state = UpdateState.decode(json.dumps(document).encode())
    assert UpdateState.decode(state.encode()) == state


def test_the_memory_of_rejected_versions_is_bounded() -> None:
    state = UpdateState()
    for number in range(100):
        state = state.with_rejected(f"1.0.{number}", "x")
    assert len(state.rejected) == REJECTED_MAX
    assert "1.0.99" in state.rejected


def test_a_version_that_holds_is_no_longer_rejected() -> None:
    state = UpdateState(installed="1.4.0").with_rejected("1.3.0", "x").with_installed("1.3.0")
    assert state.rejected == {}
    assert state.installed == "1.4.0"


def test_what_was_seen_only_grows() -> None:
    older = UpdateState(highest={"stable": "1.2.0"}, keys_serial=9, latest_time=1.0)
    seen = WHOLE.with_seen(older)
    assert seen == replace(WHOLE, keys_serial=9)


def test_changes_in_threads_do_not_lose_each_other(tmp_path: Path) -> None:
    def note(number: int) -> None:
        change_state(tmp_path, lambda state: replace(state, keys_serial=state.keys_serial + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(40)))
    assert read_state(tmp_path).keys_serial == 40


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ("updated", "updated from 1.2.0 to 1.3.0"),
        ("rolled_back", "version 1.3.0 was rolled back to 1.2.0: why"),
        ("interrupted", "the update to 1.3.0 was interrupted; 1.2.0 continues"),
        ("failed", "the update to 1.3.0 failed: why"),
    ],
)
def test_an_outcome_is_a_sentence(result: str, sentence: str) -> None:
    assert replace(OUTCOME, result=result, reason="why").sentence == sentence
