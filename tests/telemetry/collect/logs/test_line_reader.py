"""Lines read many at once are the records of the same lines read one at a time, and what their parser says."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from syntra.telemetry.collect.logs.line_parser import PARSERS
from syntra.telemetry.collect.logs.line_reader import STREAMS, Line, LineReader
from syntra.telemetry.collect.logs.line_times import LineTimes
from syntra.telemetry.collect.logs.multiline import Auto, Joiner, Off, Pattern
from syntra.telemetry.collect.logs.record_encoder import attribute, attributes, log_record
from syntra.utils.timestamps import format_ns, parse_ns
from tests.telemetry.collect.logs.test_line_parser import LOGGERS, SPAN, TRACE, TRACES

NOW = 1_790_000_000_000_000_000
STDOUT = attribute("log.iostream", "stdout")
PLAIN = ["hello", "INFO ready", "2026-09-21T14:13:20.5Z WARN slow", "T 1", "The end", "fatal", "é", "\ufffd", "", "a=b"]


def decoded(records: Sequence[bytes]) -> list[LogRecord]:
    """The records."""
    return list(ScopeLogs.FromString(b"".join(records)).log_records)


def expected(line: str, parse: str, time_ns: int) -> LogRecord:
    """The record of one line as parser and encoder make it in two steps."""
    parsed = PARSERS[parse](line, time_ns)
    if parsed is None:
        [record] = decoded([log_record(time_ns, time_ns, line.encode(errors="replace"), attributes=STDOUT)])
        return record
    fields, dropped = attributes(parsed.attributes)
    [record] = decoded(
        [
            log_record(
                parsed.time_ns or time_ns,
                time_ns,
                parsed.message.encode(errors="replace"),
                severity=parsed.severity,
                severity_text=parsed.level[:32].encode(),
                attributes=STDOUT + fields,
                dropped=dropped,
                trace_id=parsed.trace_id,
                span_id=parsed.span_id,
            )
        ]
    )
    return record


def some_value(rng: random.Random) -> Any:
    """A value that a program may log."""
    return rng.choice(
        [
            "",
            "x" * rng.choice([1, 99, 100, 127, 128, 20_000]),
            "é" * rng.randrange(90),
            rng.choice(["info", "ERROR", "loud", "30"]),
            rng.choice(["2026-09-21T14:13:20.123Z", "2026-09-21T14:13:20+02:00", "noon", "1790000000"]),
            rng.choice([TRACE, SPAN, "0" * 32]),
            rng.choice([0, 30, 127, 128, 16_383, 16_384, -1, 1 << 63, 1_790_000_000_000]),
            1.5,
            True,
            None,
            [1, "two"],
            {"type": "E", "stack": "E: no\n    at f (/a.js:1:7)"},
        ]
    )


def json_lines() -> list[str]:
    """Lines of JSON with the keys that loggers use, and with other ones."""
    rng = random.Random(3)
    keys = ["level", "severity", "msg", "message", "time", "ts", "trace_id", "span_id", "stack", "err", "error"]
    keys += ["status", "a" * 200, "a" * 300, "é", "exception.type", "user.id"]
    lines = [json.dumps({rng.choice(keys): some_value(rng) for _ in range(rng.randrange(8))}) for _ in range(2000)]
    lines += ["{", "{}", '{"msg": 1}', '{"msg":"\\ud800"}', '{"level":"info","msg":"m"} x']
    return [*lines, json.dumps({"msg": "m", **{f"k{number}": number for number in range(100)}})]


@pytest.mark.parametrize("parse", ["auto", "json", "logfmt", "klog", "off"])
def test_a_record_has_what_the_parser_says(parse: str) -> None:
    lines = [line for line, *_ in LOGGERS.values()] + PLAIN + json_lines()
    times = [NOW + 1000 * index for index in range(len(lines))]
    reader = LineReader(PARSERS[parse], [Off(), Off()])
    given = [(line + "\n", "stdout", format_ns(time)) for line, time in zip(lines, times, strict=True)]
    found = decoded(reader.feed(given) + reader.end())
    assert len(found) == len(lines)
    for line, time_ns, record in zip(lines, times, found, strict=True):
        assert record == expected(line, parse, time_ns), line


def joiner(name: str) -> Joiner:
    """A new one."""
    made: dict[str, Joiner] = {"auto": Auto(), "off": Off(), "pattern": Pattern(re.compile(r"^\d"))}
    return made[name]


def some_lines(rng: random.Random, count: int, streams: Sequence[str]) -> list[Line]:
    """Lines of which some belong together, and some are parts."""
    several = [line for text, _, _ in TRACES.values() for line in text.splitlines(keepends=True)]
    alone = [line + "\n" for line in [*PLAIN, '{"msg":"ValueError: no"}', "1 Error", "MyError: no", "TimeoutExit: 1"]]
    out: list[Line] = []
    while len(out) < count:
        texts = rng.choice(list(TRACES.values()))[0].splitlines(keepends=True) if rng.random() < 0.1 else []
        texts = texts or [rng.choice(alone if rng.random() < 0.95 else [*several, "x" * 16_384, "cut", "dos\r\n"])]
        out += [(text, rng.choice(streams), format_ns(NOW + 1000 * len(out))) for text in texts]
    return out


@pytest.mark.parametrize("name", ["auto", "off", "pattern"])
@pytest.mark.parametrize("streams", [["stdout"], STREAMS])
def test_lines_are_read_alike_many_at_once_and_one_at_a_time(name: str, streams: Sequence[str]) -> None:
    rng = random.Random(11)
    for _ in range(150):
        lines = some_lines(rng, rng.randrange(1, 40), streams)
        single = LineReader(PARSERS["auto"], [joiner(name), joiner(name)])
        one_at_a_time = [record for line in lines for record in single.feed([line])] + single.end()
        many = LineReader(PARSERS["auto"], [joiner(name), joiner(name)])
        at_once: list[bytes] = []
        at = 0
        while at < len(lines):
            size = rng.randrange(1, 15)
            at_once += many.feed(lines[at : at + size])
            at += size
        at_once += many.end()
        assert at_once == one_at_a_time
        assert many.failures == single.failures


def test_what_waits_at_the_end_of_many_lines_began_with_the_last_of_them() -> None:
    reader = LineReader(PARSERS["auto"], [Auto(), Auto()])
    lines = [(f"line {number}\n", "stderr", format_ns(NOW)) for number in range(5)]
    assert len(reader.feed(lines)) == 4
    assert (reader.open_since("stderr"), reader.open_since("stdout")) == (4, None)
    assert reader.feed([]) == []
    assert reader.feed([("  more\n", "stderr", format_ns(NOW))]) == []
    assert reader.open_since("stderr") == -1
    [last] = decoded(reader.end())
    assert last.body.string_value == "line 4\n  more"


@pytest.mark.parametrize(
    "text",
    [
        "2026-09-21T14:13:20Z",
        "2026-09-21T14:13:20.5Z",
        "2026-09-21T14:13:20.123456789Z",
        "2026-09-21T14:13:20.1234+01:00",
        "2026-09-21T14:13:20+02:00",
        "2026-09-21T14:13:21.1Z",
        "damaged",
        "",
    ],
)
def test_a_time_is_read_alike_whatever_was_read_before(text: str) -> None:
    def parse(given: str) -> int:
        return 0 if given in {"damaged", ""} else parse_ns(given) or 0

    times = LineTimes(parse)
    before = "2026-09-21T14:13:20.25Z"
    assert times.ns(before) == NOW + 250_000_000
    assert times.ns(text) == parse(text)
    assert times.many([before, text, before]) == [parse(before), parse(text), parse(before)]
