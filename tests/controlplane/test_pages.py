"""Pages of records: their bounds, and that reading them one after another gives each record once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syntra.controlplane.pages import page

ROOM = 2000


def records(sizes: list[int], after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records with the cursors 1, 2, …"""
    return ((cursor, {"n": cursor, "text": "x" * size}) for cursor, size in enumerate(sizes, 1) if cursor > after)


def test_an_answer_holds_the_records_the_cursor_and_the_rest() -> None:
    found = page(records([1, 2]), 0, max_bytes=ROOM, max_records=10)
    assert json.loads(found.answer("lines", {"done": True})) == {
        "lines": [{"n": 1, "text": "x"}, {"n": 2, "text": "xx"}],
        "done": True,
        "next": 2,
        "more": False,
    }


def test_an_empty_page_keeps_the_cursor() -> None:
    assert json.loads(page(records([]), 7, max_bytes=ROOM, max_records=10).answer("lines", {})) == {
        "lines": [],
        "next": 7,
        "more": False,
    }


def test_only_one_record_too_many_is_read() -> None:
    source = records([10] * 100)
    page(source, 0, max_bytes=ROOM, max_records=3)
    assert next(source)[0] == 5


def test_a_record_above_the_limit_is_an_answer_of_its_own() -> None:
    found = page(records([5000, 1]), 0, max_bytes=ROOM, max_records=3)
    assert (len(found.records), found.next, found.more) == (1, 1, True)


@given(st.lists(st.integers(0, 900), max_size=40), st.integers(1, 10))
def test_pages_are_within_their_bounds_and_give_each_record_once(sizes: list[int], most: int) -> None:
    seen: list[int] = []
    cursor, more = 0, True
    while more:
        content = page(records(sizes, cursor), cursor, max_bytes=ROOM, max_records=most).answer("list", {})
        assert len(content) <= ROOM
        answer = json.loads(content)
        assert len(answer["list"]) <= most
        seen += [record["n"] for record in answer["list"]]
        assert not answer["more"] or answer["list"]
        cursor, more = answer["next"], answer["more"]
    assert seen == list(range(1, len(sizes) + 1))
