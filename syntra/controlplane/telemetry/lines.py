"""Items as lines of JSON: TelemetryData of the contract, and the errors and health checks of binary frames. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NoReturn

from syntra.connection.codec import count_values
from syntra.controlplane.telemetry.blocks import Contents, Kind, Tally
from syntra.model.errors import InvalidField
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import parse_ns

MOST_LINES = 100_000
MOST_VALUES = 20_000
"""The most JSON values of one item. A stack trace of 500 frames with their context has 10,000."""
MOST_LINE_BYTES = 1024 * 1024

Item = Mapping[str, object]


def encoded(items: Iterable[Item]) -> bytes:
    """One line for each item."""
    return b"".join([json.dumps(item, separators=(",", ":")).encode() + b"\n" for item in items])


def index(kind: Kind, raw: bytes, received_ns: int) -> Contents:
    """Read lines of agents. Raises InvalidField when one is not an item."""
    tally = Tally(received_ns)
    # Counted first: an empty line is one byte here, and eight in a list.
    if raw.count(b"\n") + raw.count(b"\r") > MOST_LINES:
        raise InvalidField("data", f"has more than {MOST_LINES} lines")
    for line in raw.splitlines():
        item = _item(line)
        tally.add([item_time_ns(kind, item) or 0], services(item))
    return tally.contents()


def items(raw: bytes) -> Iterable[Item]:
    """The items of stored lines."""
    return map(json.loads, raw.splitlines())


def services(item: Item) -> frozenset[str]:
    """The name under which an item is found."""
    service = item.get("service_id")
    return frozenset((service,)) if isinstance(service, str) and service else frozenset()


def item_time_ns(kind: Kind, item: Item) -> int | None:
    """The start of a span, else the item's timestamp. None when it is missing or unreadable."""
    value = item.get("start_time_ns" if kind is Kind.TRACES else "timestamp")
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if not isinstance(value, str):
        return None
    if value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    try:
        return parse_ns(value)
    except AgentError:
        return None


def _item(line: bytes) -> Item:
    if len(line) > MOST_LINE_BYTES:
        raise InvalidField("data", f"has a line of more than {MOST_LINE_BYTES} bytes")
    try:
        text = line.decode()
        if count_values(text, MOST_VALUES) > MOST_VALUES:
            raise InvalidField("data", f"has an item of more than {MOST_VALUES} values")
        item = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise InvalidField("data", "has a line that is not JSON") from exc
    if not isinstance(item, dict):
        raise InvalidField("data", "has a line that is not a JSON object")
    return item


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
