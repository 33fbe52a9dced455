"""Lines as the usual loggers write them, what is read from each, and entries of several lines."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from syntra.telemetry.collect.logs.line_parser import PARSERS
from syntra.telemetry.collect.logs.line_reader import LineReader
from syntra.telemetry.collect.logs.multiline import Auto
from syntra.telemetry.collect.logs.record_encoder import attribute, log_record
from tests.telemetry.collect.logs.rigs import attributes_of

NOW = 1_790_000_000_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"

LOGGERS: dict[str, tuple[str, int, str, int, dict[str, Any]]] = {
    "zap": (
        '{"level":"warn","ts":1790000000.5,"caller":"a.go:1","msg":"m"}',
        13,
        "m",
        NOW + 500_000_000,
        {"caller": "a.go:1"},
    ),
    "logrus": ('{"level":"error","msg":"m","time":"2026-09-21T14:13:20Z","n":1}', 17, "m", NOW, {"n": 1}),
    "slog": ('{"time":"2026-09-21T14:13:20.5Z","level":"INFO","msg":"m"}', 9, "m", NOW + 500_000_000, {}),
    "pino": ('{"level":50,"time":1790000000000,"pid":7,"msg":"m"}', 17, "m", NOW, {"pid": 7}),
    "winston": ('{"level":"info","message":"m","service":"a"}', 9, "m", 0, {"service": "a"}),
    "bunyan": ('{"name":"a","level":20,"msg":"m","time":"2026-09-21T14:13:20.000Z","v":0}', 5, "m", NOW, {"v": 0}),
    "structlog": ('{"event":"m","level":"critical","timestamp":"2026-09-21T14:13:20Z"}', 18, "m", NOW, {}),
    "logback": ('{"@timestamp":"2026-09-21T14:13:20Z","message":"m","level":"WARN"}', 13, "m", NOW, {}),
    "serilog": ('{"@t":"2026-09-21T14:13:20Z","@m":"m","@l":"Fatal"}', 21, "m", NOW, {}),
    "logfmt": ('time=2026-09-21T14:13:20Z level=debug msg="say \\"m\\"" path=/a', 5, 'say "m"', NOW, {"path": "/a"}),
    "klog": ("W0921 14:13:20.000001       7 server.go:42] m", 13, "m", NOW + 1000, {"code.line.number": 42}),
    "plain": ("2026-09-21 14:13:20,1 [ERROR] m", 17, "2026-09-21 14:13:20,1 [ERROR] m", 0, {}),
}


@pytest.mark.parametrize("name", LOGGERS)
def test_level_message_time_and_the_rest_are_read(name: str) -> None:
    line, severity, message, time_ns, some = LOGGERS[name]
    parsed = PARSERS["auto"](line, NOW)
    assert parsed is not None
    assert (parsed.severity, parsed.message, parsed.time_ns) == (severity, message, time_ns)
    assert {key: parsed.attributes.get(key) for key in some} == some


@pytest.mark.parametrize(
    "keys", [("trace_id", "span_id"), ("traceId", "spanId"), ("trace.id", "span.id"), ("@tr", "@sp")]
)
def test_trace_and_span_are_read_under_the_usual_names(keys: tuple[str, str]) -> None:
    parsed = PARSERS["auto"](json.dumps({"msg": "m", keys[0]: TRACE, keys[1]: SPAN}), NOW)
    assert parsed is not None
    assert (parsed.trace_id.hex(), parsed.span_id.hex(), parsed.attributes) == (TRACE, SPAN, {})


@pytest.mark.parametrize(
    "line",
    ["hello", '{"a": 1}', "[1, 2]", "a=b", "informed of it", '{"level": "info"', "x=1 y", "", "{}", "=", '{"msg": 7}'],
)
def test_what_is_not_recognised_stays_as_it_is(line: str) -> None:
    assert PARSERS["auto"](line, NOW) is None


def test_values_that_are_no_id_level_or_time_are_attributes() -> None:
    parsed = PARSERS["auto"]('{"msg":"m","trace_id":"none","level":"loud","time":"noon"}', NOW)
    assert parsed is not None
    assert (parsed.trace_id, parsed.severity, parsed.time_ns) == (b"", 0, 0)
    assert parsed.attributes == {"trace_id": "none", "level": "loud", "time": "noon"}


def records(text: str) -> list[Any]:
    """The records of what one program prints."""
    reader = LineReader(PARSERS["auto"], [Auto(), Auto()])
    lines = [(line, "stdout", "2026-09-21T14:13:20.5Z") for line in text.splitlines(keepends=True)]
    encoded = reader.feed(lines) + reader.end()
    return list(ScopeLogs.FromString(b"".join(encoded)).log_records)


TRACES: dict[str, tuple[str, str, str]] = {
    "python": (
        'ERROR:root:failed\nTraceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nKeyError: 1\n\n'
        "During handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
        '  File "a.py", line 2, in <module>\nshop.CardError: no card\n',
        "shop.CardError",
        "no card",
    ),
    "java": (
        'Exception in thread "main" java.lang.IllegalStateException: bad\n\tat a.B.c(B.java:1)\n'
        "Caused by: java.io.IOException: disk\n\tat a.B.d(B.java:2)\n\t... 1 more\n",
        "java.lang.IllegalStateException",
        "bad",
    ),
    "go": (
        "panic: boom\n\ngoroutine 1 [running]:\nmain.f(...)\n\t/a/main.go:4\n"
        "main.main()\n\t/a/main.go:9 +0x1d\nexit status 2\n",
        "panic",
        "boom",
    ),
    "node": (
        "TypeError: no\n    at f (/a/x.js:1:7)\n    at Object.<anonymous> (/a/x.js:3:1)\n",
        "TypeError",
        "no",
    ),
    "rust": (
        "thread 'main' panicked at src/main.rs:2:5:\nboom\nnote: run with `RUST_BACKTRACE=1`\n",
        "panic",
        "boom",
    ),
    "dotnet": (
        "Unhandled exception. System.InvalidOperationException: bad\n   at A.B.C() in /a/B.cs:line 3\n",
        "System.InvalidOperationException",
        "bad",
    ),
    "ruby": (
        "a.rb:3:in `f': bad (ArgumentError)\n\tfrom a.rb:7:in `<main>'\n",
        "ArgumentError",
        "bad",
    ),
}


@pytest.mark.parametrize("language", TRACES)
def test_a_stack_trace_is_one_record_with_its_exception(language: str) -> None:
    text, kind, message = TRACES[language]
    found = records(f"INFO before\n{text}INFO after\n")
    assert [record.body.string_value for record in found] == ["INFO before", text.rstrip("\n"), "INFO after"]
    attributes = attributes_of(found[1])
    assert (attributes["exception.type"], attributes["exception.message"]) == (kind, message)
    assert found[1].severity_number >= 17


def test_lines_that_only_look_like_traces_stay_apart() -> None:
    lines = ["Error: one", "Error: two", "INFO java.lang.Exception is a class", "thread pool started", "fatal", "", "x"]
    assert [record.body.string_value for record in records("\n".join(lines) + "\n")] == lines


def test_a_stack_in_a_field_of_json_is_an_exception() -> None:
    error = {"type": "TypeError", "message": "no", "stack": "TypeError: no\n    at f (/a/x.js:1:7)"}
    [record] = records(json.dumps({"level": 50, "msg": "failed", "err": error}) + "\n")
    attributes = attributes_of(record)
    assert (attributes["exception.type"], attributes["exception.message"]) == ("TypeError", "no")
    assert attributes["exception.stacktrace"] == error["stack"]


def test_what_is_encoded_by_hand_is_what_protobuf_reads() -> None:
    rng = random.Random(1)
    for size in (0, 1, 99, 127, 128, 16_000, 70_000):
        given = {
            "text": "é" * size,
            "int": -rng.getrandbits(40),
            "big": 1 << 70,
            "float": 1.5,
            "yes": True,
            "none": None,
        }
        given["nested"] = {"list": [1, {"a": "b" * size}], "deep": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}}
        encoded = b"".join(attribute(key, value) for key, value in given.items())
        record = log_record(
            7,
            8,
            b"x" * size,
            severity=9,
            severity_text=b"info",
            attributes=encoded,
            trace_id=bytes(range(16)),
            span_id=b"12345678",
        )
        [found] = ScopeLogs.FromString(record).log_records
        assert (found.time_unix_nano, found.observed_time_unix_nano, found.severity_number) == (7, 8, 9)
        assert found.body.string_value == "x" * size
        attributes = {one.key: one.value for one in found.attributes}
        assert attributes["text"].string_value == "é" * size
        assert attributes["int"].int_value == given["int"]
        assert attributes["big"].string_value == str(1 << 70)
        assert attributes["nested"].kvlist_value.values[0].value.array_value.values[0].int_value == 1
        assert (found.trace_id, found.span_id) == (bytes(range(16)), b"12345678")


def test_no_line_makes_a_parser_fail() -> None:
    rng = random.Random(7)
    pieces = [
        "{",
        "}",
        '"',
        "=",
        ":",
        " ",
        "\t",
        "\\",
        "level",
        "msg",
        "error",
        "at ",
        "E0921 14:13:20.000001 1 a:1]",
        "\ud800",
        "panic: ",
    ]
    for _ in range(3000):
        line = "".join(rng.choice(pieces) for _ in range(rng.randrange(12)))
        for parse in PARSERS.values():
            parse(line, NOW)
        records(line + "\n" + line + "\n")
