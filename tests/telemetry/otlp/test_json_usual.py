"""The decoder of usual requests gives what the general decoder gives, or leaves the request to it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.otlp.json_usual import Usual
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.messages import REQUESTS

SPAN = {
    "traceId": '"5b8efff798038103d269b633813fc60c"',
    "spanId": '"eee19b7ec3c1b174"',
    "traceState": '"a=b"',
    "parentSpanId": '"eee19b7ec3c1b173"',
    "name": '"charge"',
    "kind": "2",
    "startTimeUnixNano": '"1790000000000000000"',
    "endTimeUnixNano": "1790000001000000000",
    "attributes": '[{"key":"a","value":{"stringValue":"x"}},{"key":"b","value":{"intValue":"7"}}]',
    "droppedAttributesCount": "1",
    "events": '[{"timeUnixNano":"5","name":"exception"}]',
    "droppedEventsCount": "2",
    "links": '[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}]',
    "droppedLinksCount": "300",
    "status": '{"message":"no","code":2}',
    "flags": "257",
}
LOG = {
    "timeUnixNano": '"1790000000000000000"',
    "observedTimeUnixNano": '"1790000000000000001"',
    "severityNumber": "9",
    "severityText": '"INFO"',
    "body": '{"stringValue":"paid"}',
    "attributes": SPAN["attributes"],
    "droppedAttributesCount": "1",
    "flags": "1",
    "traceId": SPAN["traceId"],
    "spanId": SPAN["spanId"],
    "eventName": '"payment"',
}
RECORDS = {Signal.TRACES: SPAN, Signal.LOGS: LOG}
KEYS = {
    Signal.TRACES: ("resourceSpans", "scopeSpans", "spans"),
    Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
}
FIELDS = [(signal, name) for signal, record in RECORDS.items() for name in record]

ODD = [
    *("null", "true", "false", "0", "1", "-1", "127", "128", "1.0", "-0", "-0.0", "1.5", "1e3", "1E400", "NaN", "01"),
    *("4294967295", "4294967296", "18446744073709551615", "18446744073709551616", "9" * 40),
    *('""', '"1"', '"-1"', '"+1"', '"01"', '" 1"', '"1_0"', '"1e3"', '"1.0"', '"0x1"', '"١"', '"true"', '"NaN"'),
    *('"' + "9" * 40 + '"', '"SPAN_KIND_CLIENT"', '"\\u0031"', '"a\\"b"', '"\\\\"', '"ü𝄞"', '"\\u00fc\\ud834\\udd1e"'),
    *('"\\ud800"', '"\\x"', '"\t"', '"\x7f"', '"' + "ab" * 16 + '"', '"' + "AB" * 8 + '"', '"' + "zz" * 16 + '"'),
    *(
        '"' + "é" * 16 + '"',
        '"' + "x" * 200 + '"',
        '"' + "x" * 20000 + '"',
        "[]",
        "{}",
        "[null]",
        "[{}]",
        "[[]]",
        "[0]",
    ),
    *(
        '{"code":0}',
        '{"code":"2"}',
        '{"code":200}',
        '{"code":null}',
        '{"message":""}',
        '{"new":1}',
        '{"code":1,"code":2}',
    ),
    *(
        '{"stringValue":""}',
        '{"stringValue":"a\\"b"}',
        '{"stringValue": "a"}',
        '{"string_value":"a"}',
        '{"intValue":5}',
    ),
    *("[" * 1500 + "]" * 1500, "[" * 50 + "]" * 50, "x", "", '"', "{", "}", "]"),
]
"""Values for any field. Some are not JSON."""


def filled(template: str, values: Iterable[str]) -> list[str]:
    """The template with each of the values in its place."""
    return [template.replace("PLACE", value) for value in values]


ATTRIBUTES = [
    *('{"key":"k","value":{"stringValue":"v"}}', '{"key":"k","value":{"stringValue":""}}', '{"key":"","value":{}}'),
    *filled('{"key":"k","value":{"intValue":PLACE}}', ODD),
    *filled('{"key":"k","value":{"boolValue":PLACE}}', ODD),
    *filled('{"key":"k","value":{"doubleValue":PLACE}}', ODD),
    *filled('{"key":"k","value":{"stringValue":PLACE}}', ODD),
    *filled('{"key":PLACE,"value":{"stringValue":"v"}}', ODD),
    *filled('{"key":"k","value":PLACE}', ODD),
    *filled(
        '{"key":"k","value":{"intValue":"PLACE"}}',
        [str(1 << bits) for bits in (0, 6, 7, 13, 14, 19, 20, 21, 31, 62, 63, 64)],
    ),
    *filled('{"key":"k","value":{"intValue":PLACE}}', map(str, (0, 127, 128, 16383, 16384, 999999, 1000000))),
    *filled('{"key":"k","value":{"stringValue":"PLACE"}}', ["v" * size for size in (125, 126, 127, 128, 129, 16384)]),
    *filled('{"key":"PLACE","value":{"stringValue":"v"}}', ["k" * size for size in (63, 64, 65, 127, 128, 300)]),
    '{"key":"k","value":{"stringValue":"}},{\\"key\\":\\"a"}}',
    '{"key":"k","value":{"kvlistValue":{"values":[{"key":"a","value":{"intValue":1}},{"key":"b","value":{}}]}}}',
    '{"key":"k","value":{"arrayValue":{"values":[{"stringValue":"a"},{"stringValue":"b"}]}}}',
    '{"key":"k","key":"l","value":{"stringValue":"v"}}',
    '{"key":"k","value":{"stringValue":"v"},"value":{"intValue":"1"}}',
    '{"key":"k","value":{"stringValue":"v","intValue":"1"}}',
    '{"value":{"stringValue":"v"},"key":"k"}',
    '{ "key" : "k" , "value" : { "stringValue" : "v" } }',
    '{"key":"k","value":{"stringValue":"v"},"new":1}',
    '{"key":"k","value":{"stringValue":"v"}},{"key":"k","value":{"stringValue":"v"} }',
    *("null", "5", "", '{"key":"k"', '{"key":"k","value":{"stringValue":"v"}', '"},{"'),
]


def body(signal: Signal, record: str, *, top: str = "") -> bytes:
    groups, scopes, records = KEYS[signal]
    return f'{{{top}"{groups}":[{{"{scopes}":[{{"{records}":[{record}]}}]}}]}}'.encode("utf-8", "surrogatepass")


def text(fields: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def outcome(signal: Signal, request: bytes) -> Any:
    """The message, or the place and the text of the refusal."""
    try:
        decoded = REQUESTS[signal].FromString(decode_json(signal, request))
    except BadData as exc:
        return exc.field, str(exc).partition(" at character")[0]
    return decoded.SerializeToString(deterministic=True)


def usual(signal: Signal, request: bytes) -> bytes | None:
    descriptor: Any = REQUESTS[signal].DESCRIPTOR
    return Usual(signal, descriptor.fields_by_number[1].message_type).request(request)


def check(signal: Signal, record: str) -> None:
    """The request gives the same with an unknown key in it, which only the general decoder takes."""
    found = outcome(signal, body(signal, record))
    unknown = record.replace("{", '{"unknown":0,' if record[1:2] != "}" else '{"unknown":0', 1)
    assert found == outcome(signal, body(signal, unknown, top='"unknown":0,'))


@pytest.mark.parametrize("signal", RECORDS)
def test_the_usual_request_is_taken_and_gives_the_same(signal: Signal) -> None:
    request = body(signal, text(RECORDS[signal]))
    assert usual(signal, request) is not None
    assert usual(signal, body(signal, text(RECORDS[signal]), top='"unknown":0,')) is None
    check(signal, text(RECORDS[signal]))


def test_the_form_of_the_javascript_sdk_is_usual() -> None:
    empty = dict.fromkeys(("droppedAttributesCount", "droppedEventsCount", "droppedLinksCount"), "0")
    empty |= {"events": "[]", "links": "[]", "status": '{"code":0}'}
    attributes = '[{"key":"ok","value":{"boolValue":true}},{"key":"n","value":{"intValue":200}},{"key":"f","value":{}}]'
    span = text({**SPAN, **empty, "attributes": attributes})
    assert usual(Signal.TRACES, body(Signal.TRACES, span)) is not None
    check(Signal.TRACES, span)


@pytest.mark.parametrize(("signal", "name"), FIELDS)
def test_every_field_with_every_odd_value(signal: Signal, name: str) -> None:
    for value in ODD:
        check(signal, text({**RECORDS[signal], name: value}))


@pytest.mark.parametrize(("signal", "name"), FIELDS)
def test_a_field_may_be_absent_or_stand_twice(signal: Signal, name: str) -> None:
    record = RECORDS[signal]
    check(signal, text({each: value for each, value in record.items() if each != name}))
    twice = text(record)[:-1]
    for value in (record[name], "null", "5", '"6"', "[]"):
        check(signal, f'{twice},"{name}":{value}}}')
        check(signal, f'{{"{name}":{value},{text(record)[1:]}')


@pytest.mark.parametrize("signal", RECORDS)
def test_every_attribute_alone_between_others_and_again(signal: Signal) -> None:
    plain = '{"key":"p","value":{"stringValue":"q"}}'
    number = '{"key":"n","value":{"intValue":"3"}}'
    for attribute in ATTRIBUTES:
        for items in ([attribute], [plain, attribute, number], [attribute, attribute], [number, plain, attribute]):
            for separator in (",", ", "):
                check(signal, text({**RECORDS[signal], "attributes": "[" + separator.join(items) + "]"}))


@given(st.lists(st.sampled_from(ATTRIBUTES), max_size=6))
@settings(max_examples=100, deadline=None)
def test_any_list_of_attributes(items: list[str]) -> None:
    check(Signal.TRACES, text({**SPAN, "attributes": "[" + ",".join(items) + "]"}))


@given(st.text(max_size=140), st.text(max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_text(value: str, key: str) -> None:
    item = {"key": key, "value": {"stringValue": value}}
    for ascii_only in (True, False):
        dumped = json.dumps([item, item], separators=(",", ":"), ensure_ascii=ascii_only)
        check(
            Signal.LOGS, text({**LOG, "attributes": dumped, "body": json.dumps(item["value"], separators=(",", ":"))})
        )


@pytest.mark.parametrize("signal", RECORDS)
def test_text_that_is_not_utf8_is_bad_data(signal: Signal) -> None:
    record = text(RECORDS[signal] | {"attributes": '[{"key":"a","value":{"stringValue":"PLACE"}}]'})
    for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80"):
        with pytest.raises(BadData):
            decode_json(signal, body(signal, record).replace(b"PLACE", bad))


@pytest.mark.parametrize("signal", RECORDS)
def test_groups_and_scopes(signal: Signal) -> None:
    groups, scopes, records = KEYS[signal]
    record = text(RECORDS[signal])
    resource = '{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]}'
    for value in (resource, "null", "{}", "5", '{"attributes":[{"key":5}]}', '{"new":1}', '"\\ud800"', "1e400"):
        for scope in ('{"name":"s","version":"1"}', "null", "{}", "[]", '{"name":1}'):
            for url in ('"https://example.org"', '""', "null", "5"):
                scope_text = f'{{"scope":{scope},"{records}":[{record},{record}],"schemaUrl":{url}}}'
                request = (
                    f'{{"{groups}":[{{"resource":{value},"{scopes}":[{scope_text},{{}}],"schemaUrl":{url}}},{{}}]}}'
                )
                general = request.replace("{", '{"unknown":0,', 1)
                assert outcome(signal, request.encode()) == outcome(signal, general.encode())


@pytest.mark.parametrize("item", ["{}", '{"scopeSpans":[]}', '{"resource":{}}', '{"scopeSpans":[{}]}'])
def test_the_memory_of_a_small_hostile_request_is_reserved(item: str) -> None:
    request = ('{"resourceSpans":[' + ",".join([item] * (40_000 // (len(item) + 1))) + "]}").encode()
    asked: list[int] = []
    decode_json(Signal.TRACES, request)
    tracemalloc.start()
    try:
        decode_json(Signal.TRACES, request, asked.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < max(asked) + 64 * 1024
