"""JSON objects out of a byte stream, under every cut and every early end."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.errors import EngineProtocolError, StreamBroken
from syntra.runtime.docker.jsonlines import MAX_DEPTH, MAX_VALUE_BYTES, JsonStream
from tests.runtime.docker.cuts import every_cut

RAW = '{"a":1}\r\n{"b":"}{\\"\\\\"}{"c":[{"d":"☃"},{}]}\n\n  {"e":null}\n'.encode()
VALUES: list[dict[str, object]] = [{"a": 1}, {"b": '}{"\\'}, {"c": [{"d": "☃"}, {}]}, {"e": None}]


def test_objects_come_out_whole_however_the_bytes_are_cut() -> None:
    for parts in every_cut(RAW):
        stream = JsonStream()
        assert [value for part in parts for value in stream.feed(part)] == VALUES
        stream.feed_eof()
        assert stream.error is None


def test_an_end_inside_an_object_is_a_broken_stream() -> None:
    for index in range(len(RAW)):
        stream = JsonStream()
        values = stream.feed(RAW[:index])
        assert values == VALUES[: len(values)]
        stream.feed_eof()
        assert (stream.error is not None) is _open(RAW[:index])
        assert stream.error is None or isinstance(stream.error, StreamBroken)


def _open(prefix: bytes) -> bool:
    depth, string, escaped = 0, False, False
    for byte in prefix:
        char = chr(byte)
        if string:
            string = escaped or char != '"'
            escaped = not escaped and char == "\\"
        elif char == '"':
            string = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
    return depth > 0


@pytest.mark.parametrize(
    "bad",
    [
        b"null",
        b"[]",
        b"x",
        b'{"a"}',
        b"{]",
        b'{"a":' + b"[" * MAX_DEPTH,
        b'{"a":"\xff"}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_object_is_an_error_after_the_values_before_it(bad: bytes) -> None:
    cuts = list(every_cut(b'{"a":1}\n' + bad))
    for parts in cuts[:: max(1, len(cuts) // 200)]:
        stream = JsonStream()
        assert [value for part in parts for value in stream.feed(part)] == [{"a": 1}]
        assert isinstance(stream.error, EngineProtocolError)
        assert stream.feed(b'{"b":2}') == []


def test_an_endless_object_is_refused() -> None:
    stream = JsonStream()
    stream.feed(b'{"a":"')
    for _ in range(MAX_VALUE_BYTES // 65536 + 1):
        stream.feed(b"x" * 65536)
    assert isinstance(stream.error, EngineProtocolError)
    whole = JsonStream()
    assert whole.feed(b'{"a":"' + b"x" * MAX_VALUE_BYTES + b'"}') == []
    assert isinstance(whole.error, EngineProtocolError)
