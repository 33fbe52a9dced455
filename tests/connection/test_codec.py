"""Frames of every kind: what is an envelope, what is malformed, and that nothing else can come of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.connection.codec import MAX_DEPTH, MAX_FRAME_BYTES, MAX_VALUES, Envelope, count_values, decode, encode
from syntra.connection.errors import MalformedFrame, UnencodableMessage

WHOLE = json.dumps(
    {
        "id": "5f0f2a9e-0000-4000-8000-000000000001",
        "type": "deploy",
        "timestamp": "2026-01-02T03:04:05Z",
        "payload": {"service_id": "svc_1", "config": {"port": 8080, "env_vars": {"GREETING": "grüß 𝄞"}}, "cpu": 0.5},
        "something_new": [1, 2, 3],
    }
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_a_whole_frame_becomes_an_envelope_and_unknown_fields_are_ignored() -> None:
    expected = Envelope(
        id="5f0f2a9e-0000-4000-8000-000000000001",
        type="deploy",
        timestamp="2026-01-02T03:04:05Z",
        payload={"service_id": "svc_1", "config": {"port": 8080, "env_vars": {"GREETING": "grüß 𝄞"}}, "cpu": 0.5},
    )
    assert decode(WHOLE) == expected
    assert decode(WHOLE.encode()) == expected


def test_a_binary_frame_is_read_as_utf8_json() -> None:
    frame = json.dumps(json.loads(WHOLE), ensure_ascii=False).encode()
    assert decode(frame) == decode(WHOLE)


def test_every_cut_of_a_frame_is_malformed_and_nothing_worse() -> None:
    for end in range(len(WHOLE)):
        with pytest.raises(MalformedFrame):
            decode(WHOLE[:end])
        with pytest.raises(MalformedFrame):
            decode(WHOLE[:end].encode())
    for start in range(1, len(WHOLE)):
        with pytest.raises(MalformedFrame):
            decode(WHOLE[start:])


def test_every_single_wrong_byte_is_survived() -> None:
    frame = WHOLE.encode()
    for index in range(len(frame)):
        for wrong in (b"\x00", b"\xff", b'"', b"{"):
            try:
                envelope = decode(frame[:index] + wrong + frame[index + 1 :])
            except MalformedFrame:
                continue
            assert isinstance(envelope.payload, dict)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "not JSON"),
        ("null", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("{}", "type is missing"),
        ('{"type": 7}', "type is not text"),
        ('{"type": ""}', "type is not text"),
        ('{"type": "ping", "payload": []}', "payload is not an object"),
        ('{"type": "ping", "payload": "{}"}', "payload is not an object"),
        ('{"type": "ping", "id": []}', "id is neither text nor a number"),
        ('{"type": "ping", "id": true}', "id is neither text nor a number"),
        ('{"type": "ping", "payload": {"x": NaN}}', "NaN is not JSON"),
        ('{"type": "ping", "payload": {"x": -Infinity}}', "-Infinity is not JSON"),
        ('{"type": "ping", "payload": {"x": 1e999}}', "a number is out of range"),
        ('{"type": "ping", "id": "' + "x" * 300 + '"}', "id is longer"),
        ('{"type": "' + "x" * 300 + '"}', "type is longer"),
        ('{"type": "ping", "payload": {"x": ' + "9" * 5000 + "}}", "too many digits"),
        ('{"type": "ping", "payload": {"x": "\\ud800"}}', "half of a surrogate pair"),
        ('{"type": "ping", "payload": {"\\uDFFF": 1}}', "half of a surrogate pair"),
        ('{"type": "ping", "id": "\ud800"}', "not valid Unicode"),
        (b'{"type": "p\xffng"}', "not UTF-8 at byte 11"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"\x28\xb5\x2f\xfd zstd", "not UTF-8"),
    ],
)
def test_what_is_no_envelope_says_why(frame: str | bytes, reason: str) -> None:
    with pytest.raises(MalformedFrame, match=reason):
        decode(frame)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_hundred_thousand_brackets_are_malformed(opening: str) -> None:
    with pytest.raises(MalformedFrame, match="nested too deeply"):
        decode(opening * 100_000)
    with pytest.raises(MalformedFrame, match="nested too deeply"):
        decode('{"type": "ping", "payload": {"x": ' + opening * 100_000)


def test_nesting_is_bounded_well_below_what_a_recursive_reader_bears() -> None:
    def nested(depth: int) -> str:
        # The envelope and its payload are two of the levels.
        return '{"type": "ping", "payload": ' + '{"a":' * (depth - 2) + "{}" + "}" * (depth - 2) + "}"

    assert decode(nested(MAX_DEPTH)).type == "ping"
    with pytest.raises(MalformedFrame, match="nested too deeply"):
        decode(nested(MAX_DEPTH + 1))


def test_many_brackets_that_are_not_deep_are_fine() -> None:
    payload = {"logs": [{"line": "[[[[" * 50} for _ in range(200)]}
    frame = json.dumps({"type": "x", "payload": payload})
    assert decode(frame).payload == payload


@pytest.mark.parametrize("unit", ["[],", '{"a":1},', "1,", '"",', '[["x"]],', "{},", '"\\"",'])
def test_a_frame_of_a_million_values_is_refused_before_it_is_parsed(unit: str) -> None:
    room = MAX_FRAME_BYTES - 100
    frame = '{"type": "x", "payload": {"a": [' + (unit * (room // len(unit)))[:-1] + "]}}"
    for form in (frame, frame.encode()):
        with pytest.raises(MalformedFrame, match=f"more than {MAX_VALUES} values"):
            decode(form)
    # The same without its end: had the parser run, it would say that this is not JSON.
    with pytest.raises(MalformedFrame, match=f"more than {MAX_VALUES} values"):
        decode(frame[:-3])


def test_names_of_one_object_count_as_one_value_each() -> None:
    members = ",".join(f'"{index}":0' for index in range(MAX_VALUES))
    with pytest.raises(MalformedFrame, match=f"more than {MAX_VALUES} values"):
        decode('{"type": "x", "payload": {' + members + "}}")


@pytest.mark.parametrize(
    ("piece", "times"), [(",[{", 5_000_000), ('\\",[', 3_000_000), ("\\\\", 8_000_000), ('\\\\,\\\\\\",', 2_000_000)]
)
def test_a_frame_as_large_as_allowed_with_few_values_passes_whatever_its_strings_hold(piece: str, times: int) -> None:
    text = piece * times
    frame = '{"type": "x", "payload": {"text": "' + text + '", "after": [1, 2]}}'
    assert len(frame) < MAX_FRAME_BYTES
    payload = decode(frame).payload
    assert payload == {"text": json.loads(f'"{text}"'), "after": [1, 2]}


def values_in(document: Any) -> int:
    """What `count_values` counts, by walking the parsed document."""
    if not isinstance(document, (dict, list)):
        return 0
    members = list(document.values()) if isinstance(document, dict) else document
    return max(1, len(members)) + sum(values_in(member) for member in members)


TRICKY = st.text(alphabet='",[{}]:\\ua\n')
TRICKY_JSON = st.recursive(
    st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TRICKY, inner, max_size=4),
    max_leaves=20,
)


@given(TRICKY_JSON)
def test_the_count_of_values_is_that_of_the_parsed_document(document: Any) -> None:
    count = values_in(document)
    for text in (json.dumps(document), json.dumps(document, separators=(",", ":"))):
        assert count_values(text, count) <= count
        for less in range(count):
            assert count_values(text, less) > less


def test_the_limit_of_values_is_exact() -> None:
    # Two members of the envelope, one of the payload, and those of the list.
    frame = json.dumps({"type": ",,,[[[{{{", "payload": {'",[': [",", "[", "{"]}})
    assert decode(frame, max_values=6).type == ",,,[[[{{{"
    with pytest.raises(MalformedFrame, match="more than 5 values"):
        decode(frame, max_values=5)


def test_a_valid_surrogate_pair_is_text() -> None:
    assert decode('{"type": "ping", "payload": {"x": "\\ud834\\udd1e"}}').payload == {"x": "𝄞"}


def test_missing_parts_have_harmless_values() -> None:
    assert decode('{"type": "ping"}') == Envelope(id="", type="ping", timestamp="", payload={})
    assert decode('{"type": "ping", "id": null, "payload": null, "timestamp": 5}').timestamp == ""


@pytest.mark.parametrize(("given_id", "read"), [("17", "17"), ("1.5", "1.5"), ('"a"', "a"), ("-0", "0")])
def test_a_numeric_id_becomes_text(given_id: str, read: str) -> None:
    assert decode('{"type": "ping", "id": ' + given_id + "}").id == read


def test_the_size_limit_counts_bytes() -> None:
    frame = json.dumps({"type": "x", "payload": {"text": "é" * 50}}, ensure_ascii=False)
    size = len(frame.encode())
    for form in (frame, frame.encode()):
        assert decode(form, max_bytes=size).type == "x"
        with pytest.raises(MalformedFrame, match="larger than"):
            decode(form, max_bytes=size - 1)


def test_a_reason_never_quotes_the_frame() -> None:
    for frame in ('{"token": "syn_agt_secret', '{"type": "ping", "id": {"syn_agt_secret": 1}}', '"syn_agt_secret"'):
        with pytest.raises(MalformedFrame) as caught:
            decode(frame)
        assert "secret" not in str(caught.value)


@given(st.text() | st.binary())
def test_any_frame_at_all_is_survived(frame: str | bytes) -> None:
    try:
        envelope = decode(frame)
    except MalformedFrame:
        return
    assert isinstance(envelope, Envelope)


@given(JSON)
def test_any_json_document_is_survived(document: Any) -> None:
    for frame in (json.dumps(document), json.dumps({"type": "x", "id": document, "payload": document})):
        try:
            envelope = decode(frame)
        except MalformedFrame:
            continue
        json.dumps(envelope.payload, ensure_ascii=False, allow_nan=False).encode()


def finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_encoded_decodes_to_the_same_with_null_for_what_is_no_number(payload: dict[str, Any]) -> None:
    envelope = Envelope(id="1", type="heartbeat", timestamp="t", payload=payload)
    text = encode(envelope)
    assert text.isascii()
    assert decode(text) == Envelope(id="1", type="heartbeat", timestamp="t", payload=finite(payload))


def test_a_lone_surrogate_of_ours_travels_escaped() -> None:
    text = encode(Envelope(id="1", type="log_stream", timestamp="t", payload={"message": "\ud800"}))
    assert "\\ud800" in text
    text.encode()


def test_what_json_cannot_carry_is_our_error() -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for payload in ({"x": object()}, {"x": b"bytes"}, {"x": 10**5000}, endless):
        with pytest.raises(UnencodableMessage, match="cannot encode the heartbeat message"):
            encode(Envelope(id="1", type="heartbeat", timestamp="t", payload=payload))
