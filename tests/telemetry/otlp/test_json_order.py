"""Fields of a JSON request come out in the order of their numbers, whatever the order of the keys."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.processing.traces import has_exception
from syntra.telemetry.signals import Signal

EVENT: dict[str, Any] = {
    "timeUnixNano": "1790000000000000000",
    "name": "exception",
    "attributes": [{"key": "exception.type", "value": {"stringValue": "Error" * 20}}],
}
SPAN: dict[str, Any] = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "traceState": "a=b",
    "parentSpanId": "eee19b7ec3c1b173",
    "name": "charge",
    "kind": 2,
    "startTimeUnixNano": "1790000000000000000",
    "endTimeUnixNano": "1790000001000000000",
    "status": {"message": "no", "code": 2},
    "flags": 257,
}


def encoded(span: dict[str, Any]) -> bytes:
    return decode_json(Signal.TRACES, json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode())


@pytest.mark.parametrize("order", list(itertools.permutations(EVENT)))
def test_an_exception_is_found_whatever_the_order_of_the_event_s_keys(order: tuple[str, ...]) -> None:
    event = {key: EVENT[key] for key in order}
    assert has_exception(encoded({**SPAN, "events": [event]}))
    assert not has_exception(encoded({**SPAN, "events": [{**event, "name": "paid"}]}))


def test_spans_have_the_same_bytes_whatever_the_order_of_their_keys() -> None:
    plain = encoded({**SPAN, "events": [EVENT]})
    assert encoded(dict(reversed({**SPAN, "events": [EVENT]}.items()))) == plain
    # An unknown key leads to the general encoder.
    assert encoded({"unknown": 1, **SPAN, "events": [EVENT]}) == plain
