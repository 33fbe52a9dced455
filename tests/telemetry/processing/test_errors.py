"""Exceptions of spans and log records become errors of the contract, whatever language wrote the stack trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.telemetry import attributes
from syntra.telemetry.otlp.json_decoder import decode_json
from syntra.telemetry.processing import errors, stack_traces
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.sdk_samples import BY_NAME

RESOURCE = {"syntra.service.id": "svc_1", "syntra.deployment.id": "dep_1", "service.version": "1.2.3"}

PYTHON = """Traceback (most recent call last):
  File "/app/a.py", line 1, in inner
    raise KeyError
KeyError

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/main.py", line 7, in <module>
    use()
    ^^^^^
  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode
    raise JSONDecodeError
json.decoder.JSONDecodeError: Expecting value: line 1
"""
NODE = """TypeError: x is not a function
    at use (/app/main.cjs:2162:10)
    at async Object.<anonymous> (file:///app/esm.mjs:7:3)
    at new Shop [as Market] (/app/shop.js:3:9)
    at /app/anonymous.js:1:2
    at Module._compile (node:internal/modules/cjs/loader:1521:14)
    at next (/app/node_modules/express/lib/router.js:13:7)
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)"""
JAVA = """java.lang.IllegalStateException: gone
\tat com.example.Shop.pay(Shop.java:42)
\tat java.base/java.lang.Thread.run(Thread.java:840)
\tat com.example.Native.call(Native Method)
\t... 3 more
Caused by: java.io.IOException: socket
\tat com.example.Socket.read(Socket.java:1)
"""
GO = """goroutine 1 [running]:
runtime/debug.Stack()
\t/usr/local/go/src/runtime/debug/stack.go:24 +0x5e
main.(*Shop).pay(0xc0000140a8, {0x1, 0x2})
\t/app/shop.go:12 +0x1d
created by main.main
\t/app/main.go:7 +0x25
"""
RUBY = """/app/shop.rb:12:in 'Shop#pay': gone (RuntimeError)
\tfrom /usr/lib/ruby/3.2/set.rb:501:in `each'
\tfrom app.rb:3:in `<main>'
"""
DOTNET = """System.InvalidOperationException: gone
 ---> System.Exception: cause
   at Shop.Inner.Run() in /src/Inner.cs:line 3
   --- End of inner exception stack trace ---
   at Shop.Pay(String id, Int32 n) in /src/Shop.cs:line 42
   at System.Threading.Tasks.Task.Execute()
"""
RUST = """   0: rust_begin_unwind
             at /rustc/90b35a623/library/std/src/panicking.rs:645:5
   1: shop::pay
             at ./src/main.rs:12:9
   2: 0x55e - core::ops::function::FnOnce::call_once
             at /rustc/90b35a623/library/core/src/ops/function.rs:250:5
"""
PHP = """#0 /app/src/Shop.php(12): Shop->pay('x')
#1 /app/vendor/slim/App.php(3): Slim\\App->run()
#2 {main}"""
FIREFOX = "pay@https://shop.example/app.js:12:9\n@https://shop.example/app.js:40:1"


def frame(filename: str, function: str, line: int, column: int | None = None, in_app: bool = True) -> dict[str, Any]:
    made: dict[str, Any] = {"filename": filename, "function": function, "lineno": line, "in_app": in_app}
    return made if column is None else made | {"colno": column}


TRACES = {
    "python": (
        PYTHON,
        [
            frame("/usr/lib/python3.11/json/decoder.py", "raw_decode", 355, in_app=False),
            frame("/app/main.py", "<module>", 7),
        ],
    ),
    "node": (
        NODE,
        [
            frame("/app/main.cjs", "use", 2162, 10),
            frame("/app/esm.mjs", "Object.<anonymous>", 7, 3),
            frame("/app/shop.js", "new Shop [as Market]", 3, 9),
            frame("/app/anonymous.js", "<anonymous>", 1, 2),
            frame("node:internal/modules/cjs/loader", "Module._compile", 1521, 14, in_app=False),
            frame("/app/node_modules/express/lib/router.js", "next", 13, 7, in_app=False),
            frame("node:internal/process/task_queues", "process.processTicksAndRejections", 95, 5, in_app=False),
        ],
    ),
    "java": (
        JAVA,
        [
            frame("Shop.java", "com.example.Shop.pay", 42),
            frame("Thread.java", "java.lang.Thread.run", 840, in_app=False),
            frame("Native Method", "com.example.Native.call", 0),
        ],
    ),
    "go": (
        GO,
        [
            frame("/usr/local/go/src/runtime/debug/stack.go", "runtime/debug.Stack", 24, in_app=False),
            frame("/app/shop.go", "main.(*Shop).pay", 12),
            frame("/app/main.go", "main.main", 7),
        ],
    ),
    "ruby": (
        RUBY,
        [
            frame("/app/shop.rb", "Shop#pay", 12),
            frame("/usr/lib/ruby/3.2/set.rb", "each", 501, in_app=False),
            frame("app.rb", "<main>", 3),
        ],
    ),
    "dotnet": (
        DOTNET,
        [
            frame("/src/Shop.cs", "Shop.Pay", 42),
            frame("<unknown>", "System.Threading.Tasks.Task.Execute", 0, in_app=False),
        ],
    ),
    "rust": (
        RUST,
        [
            frame("/rustc/90b35a623/library/std/src/panicking.rs", "rust_begin_unwind", 645, 5, in_app=False),
            frame("./src/main.rs", "shop::pay", 12, 9),
            frame(
                "/rustc/90b35a623/library/core/src/ops/function.rs",
                "core::ops::function::FnOnce::call_once",
                250,
                5,
                in_app=False,
            ),
        ],
    ),
    "php": (
        PHP,
        [
            frame("/app/src/Shop.php", "Shop->pay", 12),
            frame("/app/vendor/slim/App.php", "Slim\\App->run", 3, in_app=False),
        ],
    ),
    "firefox": (
        FIREFOX,
        [
            frame("https://shop.example/app.js", "pay", 12, 9),
            frame("https://shop.example/app.js", "<anonymous>", 40, 1),
        ],
    ),
}


@pytest.mark.parametrize("language", list(TRACES))
def test_the_stack_trace_of_a_language_becomes_frames(language: str) -> None:
    trace, expected = TRACES[language]
    assert stack_traces.frames(trace) == expected
    assert stack_traces.frames(trace.replace("\n", "\r\n")) == expected


@given(st.text() | st.sampled_from([trace for trace, _ in TRACES.values()]).flatmap(
    lambda trace: st.integers(0, len(trace)).map(lambda end: trace[:end] + "\x00(:1" + trace[end:])
))  # fmt: skip
@settings(deadline=None)
def test_any_text_has_bounded_frames(trace: str) -> None:
    assert len(stack_traces.frames(trace)) <= stack_traces.MAX_FRAMES


@pytest.mark.parametrize("trace", ["", "[]", "[1, null]", "[", "[" * 5000, '[{"filename": 5, "lineno": "x"}]', "gone"])
def test_a_trace_without_frames_is_no_failure(trace: str) -> None:
    assert len(stack_traces.frames(trace)) <= 1


def test_a_long_trace_keeps_both_ends() -> None:
    lines = [f'  File "/app/f{n}.py", line {n}, in f{n}' for n in range(1000)]
    frames = stack_traces.frames("Traceback (most recent call last):\n" + "\n".join(lines))
    assert len(frames) == stack_traces.MAX_FRAMES
    assert (frames[0]["function"], frames[-1]["function"]) == ("f999", "f0")


def log_error(record: LogRecord, resource: Mapping[str, object] | None = None) -> dict[str, Any] | None:
    return errors.from_log(record, RESOURCE if resource is None else resource, new_id=lambda: "e1", now_ns=lambda: 7)


def pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def test_the_log_records_of_the_syntra_sdk_for_js() -> None:
    body = decode_json(Signal.LOGS, BY_NAME["syntra-js-otlp.logs.2"].body)
    resource_logs = ExportLogsServiceRequest.FromString(body).resource_logs[0]
    resource = attributes.flat(resource_logs.resource.attributes)
    records = resource_logs.scope_logs[0].log_records
    exception, message = [log_error(record, resource) for record in records]
    assert exception == {
        "id": "e1",
        "service_id": "svc_1",
        "deployment_id": "",
        "timestamp": "2026-11-27T00:48:39.258000000Z",
        "type": "TypeError",
        "message": "Cannot read properties of null (reading 'x')",
        "stack_trace": [
            frame("/app/main.cjs", "use", 2162, 10),
            frame("/app/main.cjs", "<anonymous>", 2175, 9),
            frame("node:internal/process/task_queues", "process.processTicksAndRejections", 95, 5, in_app=False),
        ],
        "breadcrumbs": [],
        "context": {"environment": "", "release": "1.2.3", "tags": {}, "extra": {}},
        "fingerprint": ["TypeError", "/app/main.cjs:use", "/app/main.cjs:<anonymous>"],
    }
    assert message is not None
    assert (message["type"], message["stack_trace"], message["fingerprint"]) == ("Message", [], ["Message", "hello"])


def test_the_span_event_of_the_opentelemetry_sdk_for_python() -> None:
    request = ExportTraceServiceRequest.FromString(BY_NAME["otel-python-protobuf.traces"].body)
    spans = request.resource_spans[0].scope_spans[0].spans
    numbers = count()
    found = [e for span in spans for e in errors.from_span(span, RESOURCE, new_id=lambda: f"e{next(numbers)}")]
    (error,) = found
    span = next(span for span in spans if any(event.name == "exception" for event in span.events))
    assert (error["id"], error["service_id"], error["deployment_id"]) == ("e0", "svc_1", "dep_1")
    assert error["context"]["tags"] == {
        "operation": span.name,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
    }
    assert error["stack_trace"]
    assert error["fingerprint"][0] == error["type"]


def test_a_record_without_an_exception_is_no_error() -> None:
    assert (
        log_error(LogRecord(severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR, attributes=[pair("error", "x")]))
        is None
    )
    assert errors.from_span(Span(events=[Span.Event(name="paid")]), RESOURCE, new_id=lambda: "e1") == []


def test_what_is_missing_has_a_default() -> None:
    record = LogRecord(body=AnyValue(string_value="gone"), attributes=[pair("exception.stacktrace", "no frames here")])
    error = log_error(record, {"service.name": "shop"})
    assert error is not None
    assert (error["type"], error["message"], error["service_id"]) == ("Error", "gone", "shop")
    assert error["timestamp"] == "1970-01-01T00:00:00.000000007Z"
    assert error["context"]["extra"] == {"exception.stacktrace": "no frames here"}


def test_the_fingerprint_is_the_same_after_a_deployment() -> None:
    def fingerprint(message: str, trace: str) -> list[str]:
        error = log_error(LogRecord(attributes=[
            pair("exception.type", "E"), pair("exception.message", message), pair("exception.stacktrace", trace)
        ]))  # fmt: skip
        assert error is not None
        return list(error["fingerprint"])

    assert fingerprint("a", NODE) == fingerprint("b", NODE.replace("2162:10", "2170:11"))
    assert fingerprint("a", NODE) != fingerprint("a", NODE.replace("at use", "at pay"))
    assert fingerprint("order 17 of 0xfe gone", "") == fingerprint("order 4711 of 0xab gone", "")
    assert fingerprint("order gone", "") != fingerprint("customer gone", "")


def test_a_span_gives_a_bounded_number_of_errors() -> None:
    events = [Span.Event(name="exception") for _ in range(100)]
    assert len(errors.from_span(Span(events=events), RESOURCE, new_id=lambda: "e")) == errors.MAX_ERRORS_OF_SPAN


def test_an_error_has_a_bounded_size() -> None:
    path = "/app/" + "\x01" * 500
    frames = [{"filename": f"{path}{n}", "function": "f" * 1000, "lineno": n} for n in range(200)]
    record = LogRecord(
        attributes=[
            pair("exception.type", "T" * 10_000),
            pair("exception.message", "\x01" * 1_000_000),
            pair("exception.stacktrace", json.dumps(frames)),
            *(pair(f"k{n}", "\x01" * 100_000) for n in range(1000)),
        ]
    )
    error = log_error(record)
    assert error is not None
    assert len(orjson.dumps(error)) <= errors.MAX_ITEM_BYTES


def test_errors_are_encoded_as_lines() -> None:
    assert errors.encode([{"id": "a\nb"}, {"id": "c"}]) == b'{"id":"a\\nb"}\n{"id":"c"}\n'
    assert errors.encode([]) == b""
