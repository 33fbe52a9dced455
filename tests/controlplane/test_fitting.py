"""Messages that are too large to be stored whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.controlplane.fitting import fitted

LIMIT = 32 * 1024


def test_a_message_within_the_limit_stays_as_it_is() -> None:
    message = {"request_id": "r", "data": "x" * 20_000}
    assert json.loads(fitted(message, LIMIT)) == message


def test_of_a_message_above_the_limit_the_small_members_remain() -> None:
    message = {"status": "failed", "error": {"code": "PULL_FAILED"}, "logs": ["x" * 40_000], "n": 5}
    assert json.loads(fitted(message, LIMIT)) == {
        "status": "failed",
        "error": {"code": "PULL_FAILED"},
        "n": 5,
        "omitted": ["logs"],
    }


@pytest.mark.parametrize("name", ["😀" * 5000, "\0" * 10_000, "n"])
@pytest.mark.parametrize("value", ["😀" * 4000, "x" * 100_000, "x" * 4000])
def test_the_limit_holds_whatever_the_members_are(name: str, value: str) -> None:
    message = {f"{index}{name}": value for index in range(20)}
    assert len(fitted(message, LIMIT)) <= LIMIT


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text(max_size=3000), max_size=30)))
def test_the_result_is_an_object_within_the_limit(message: dict[str, Any]) -> None:
    text = fitted(message, LIMIT)
    assert len(text) <= LIMIT
    assert isinstance(json.loads(text), dict)
