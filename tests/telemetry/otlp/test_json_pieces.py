"""Large requests are decoded in pieces, with the same result and a fraction of the memory."""

from __future__ import annotations

import json
import tracemalloc
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.messages import REQUESTS, as_json, request

KINDS = [Signal.TRACES, Signal.LOGS]
MARK = "encoded records"


def span(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": f"operation {number}",
        "kind": 2,
        "startTimeUnixNano": "1795740520160000000",
        "endTimeUnixNano": "1795740520161227958",
        "attributes": [{"key": f"key {n}", "value": {"stringValue": f"value {number * n}"}} for n in range(8)],
    } | changes


def body(*groups: list[dict[str, Any]]) -> bytes:
    scopes = [{"scope": {"name": f"scope {n}"}, "spans": spans} for n, spans in enumerate(groups)]
    return orjson.dumps({"resourceSpans": [{"scopeSpans": [scope]} for scope in scopes], "new": [span(0), span(1)]})


def names(request_body: bytes) -> list[list[str]]:
    """The names of the spans of each resource."""
    decoded: Any = REQUESTS[Signal.TRACES].FromString(decode_json(Signal.TRACES, request_body))
    return [[span.name for scope in group.scope_spans for span in scope.spans] for group in decoded.resource_spans]


@pytest.mark.parametrize("signal", KINDS)
@given(seed=st.integers(0, 1 << 32), parts=st.integers(1, 15))
@settings(max_examples=10, deadline=None)
def test_a_large_request_survives_json(signal: Signal, seed: int, parts: int) -> None:
    random = Random(seed)
    message = REQUESTS[signal]()
    for _ in range(parts):
        part: Any = request(signal, random)
        for group in getattr(part, part.DESCRIPTOR.fields[0].name):
            for scope in getattr(group, group.DESCRIPTOR.fields[1].name):
                records = getattr(scope, scope.DESCRIPTOR.fields[1].name)
                records.extend(list(records) * random.choice((0, 20, 100)))
        message.MergeFrom(part)
    decoded = REQUESTS[signal].FromString(decode_json(signal, orjson.dumps(as_json(message))))
    assert decoded.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@pytest.mark.parametrize("sizes", [(500,), (1, 500, 1), (100, 0, 100), (3,) * 100, (30,) * 10])
def test_every_span_stays_with_its_resource(sizes: tuple[int, ...]) -> None:
    groups = [[span(n, name=f"{group}.{n}") for n in range(size)] for group, size in enumerate(sizes)]
    assert names(body(*groups)) == [[item["name"] for item in group] for group in groups]


def test_most_of_a_large_request_is_never_parsed_at_once() -> None:
    large = body([span(n) for n in range(1500)])
    decode_json(Signal.TRACES, large)
    tracemalloc.start()
    try:
        decoded = decode_json(Signal.TRACES, large)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(decoded) + 2 * len(large)


def test_the_memory_of_a_large_request_is_reserved() -> None:
    usual, unusual = body([span(n) for n in range(300)]), body([span(n, links=[LINK] * 2000) for n in range(5)])
    asked: list[int] = []
    decode_json(Signal.TRACES, usual, asked.append)
    assert len(usual) < max(asked) < 2 * len(usual) + (2 << 20)
    decode_json(Signal.TRACES, unusual, asked.append)
    assert 4 * len(unusual) < max(asked)


LINK = {"traceId": "ab" * 16, "spanId": "cd" * 8}
TEXT = json.dumps([LINK, LINK]) + '},{"traceId":' * 3 + MARK


@pytest.mark.parametrize(
    "change",
    [
        {"links": [LINK] * 2000},
        {"name": TEXT},
        {"attributes": [{"key": '"spans":', "value": {"stringValue": "x" * 100_000}}]},
        {"attributes": [{"key": "spans", "value": {"stringValue": TEXT * 1000}}]},
        {"new": [{MARK: 0}]},
        {"new": [LINK] * 2000},
        {MARK: 0},
    ],
)
def test_what_only_seems_to_be_a_boundary_or_a_mark(change: dict[str, Any]) -> None:
    spans = [span(n) for n in range(300)]
    for place in (0, 1, 150, 299):
        changed = [*spans[:place], span(place, **change), *spans[place + 1 :]]
        assert names(body(changed)) == [[item["name"] for item in changed]]


def test_a_mark_that_a_sender_writes_is_an_unknown_key() -> None:
    forged = [*(span(n) for n in range(200)), {MARK: 0}, *(span(n) for n in range(200))]
    escaped = body(forged).replace(MARK.encode(), b"\\u0065ncoded records")
    for request_body in (body(forged), escaped):
        (found,) = names(request_body)
        assert found == [item.get("name", "") for item in forged]


def test_a_wrong_value_of_a_large_request_is_named_with_its_place() -> None:
    spans = [span(n) for n in range(400)]
    spans[371]["startTimeUnixNano"] = "soon"
    with pytest.raises(BadData) as caught:
        decode_json(Signal.TRACES, body([span(0)], spans))
    assert caught.value.field == "resourceSpans[1].scopeSpans[0].spans[371].startTimeUnixNano"


@given(end=st.integers(0))
@settings(max_examples=50, deadline=None)
def test_a_large_request_cut_anywhere_is_bad_data(end: int) -> None:
    large = body([span(n) for n in range(200)])
    with pytest.raises(BadData):
        decode_json(Signal.TRACES, large[: end % len(large)])
