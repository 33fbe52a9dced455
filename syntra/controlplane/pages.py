"""Listings in pages: records become JSON one by one, until an answer is full. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from syntra.utils.frozen import frozen

Cursor = TypeVar("Cursor", str, int)

# For `next`, `more`, and the brackets around the list.
FRAMING_BYTES = 1024


@frozen
class Page(Generic[Cursor]):
    """Records of one answer as JSON texts. `next` is the last one's cursor; `more` tells whether others follow it."""

    records: list[bytes]
    next: Cursor
    more: bool

    def answer(self, name: str, rest: Mapping[str, object]) -> bytes:
        """The JSON object of the answer: the records as the list `name`, the cursor, and the members of `rest`."""
        others = json_bytes({**rest, "next": self.next, "more": self.more})
        return b"".join((b'{"', name.encode(), b'":[', b",".join(self.records), b"],", others[1:]))


def page(
    records: Iterable[tuple[Cursor, Mapping[str, object]]], after: Cursor, *, max_bytes: int, max_records: int
) -> Page[Cursor]:
    """Take records, each with its cursor, while they fit into an answer of `max_bytes`.

    Reads at most one record too many. A first record is taken whatever its size, so that a client always advances.
    """
    texts: list[bytes] = []
    room = max_bytes - FRAMING_BYTES
    for cursor, record in records:
        text = json_bytes(record)
        if texts and (len(text) + 1 > room or len(texts) == max_records):
            return Page(records=texts, next=after, more=True)
        texts.append(text)
        room -= len(text) + 1
        after = cursor
    return Page(records=texts, next=after, more=False)


def json_bytes(value: Mapping[str, object]) -> bytes:
    """Compact ASCII JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
