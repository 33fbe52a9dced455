"""One record, one clean line, whatever was logged."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from syntra.utils.errors import AgentError
from syntra.utils.redact import MARK, Redactor
from syntra.utils.structured_log import LogFormat, LogHandle, configure

LOGGER = logging.getLogger("syntra.test")
CANARY = "canary-s3cret/value"


@contextlib.contextmanager
def logging_to(path: Path | None, form: LogFormat = LogFormat.JSON, level: str = "debug") -> Iterator[LogHandle]:
    """The set-up under test, and the loggers' own levels again afterwards."""
    loggers = [logging.getLogger(), logging.getLogger("syntra")]
    before = [logger.level for logger in loggers]
    redactor = Redactor()
    redactor.add(CANARY)
    handle = configure(form, level, path, redactor)
    try:
        yield handle
    finally:
        handle.close()
        for logger, number in zip(loggers, before, strict=True):
            logger.setLevel(number)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Without the handlers of others: the test runner's own raises for a record that it cannot format."""
    root = logging.getLogger()
    others, root.handlers[:] = list(root.handlers), []
    try:
        yield
    finally:
        root.handlers[:] = others


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_json_line_has_the_documented_fields(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log"):
        LOGGER.info("deployment %s", "done", extra={"service": "srv_1", "secs": 1.5, "ids": [1, 2], "ok": True})
    (line,) = lines(tmp_path / "log")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "logger": "syntra.test",
        "message": "deployment done",
        "service": "srv_1",
        "secs": 1.5,
        "ids": [1, 2],
        "ok": True,
    }
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_the_timestamp_is_the_records_in_utc(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log"):
        record = logging.makeLogRecord({"name": "syntra.x", "msg": "m", "levelno": 20, "created": 1_767_323_045.678})
        LOGGER.handle(record)
    assert lines(tmp_path / "log")[0]["timestamp"] == "2026-01-02T03:04:05.678Z"


def test_a_text_line_reads_well(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log", LogFormat.TEXT):
        LOGGER.warning("probe failed", extra={"service": "shop api", "code": 500, "detail": 'say "no"', "empty": ""})
    text = (tmp_path / "log").read_text()
    stamp, rest = text.split(" ", 1)
    assert stamp.endswith("Z")
    assert rest == ('warn  syntra.test: probe failed service="shop api" code=500 detail="say \\"no\\"" empty=""\n')


def test_levels_have_the_contracts_names(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log"):
        for number in (5, 10, 20, 30, 40, 50, 60):
            LOGGER.log(number, "x")
    assert [line["level"] for line in lines(tmp_path / "log")] == ["debug", "info", "warn", "error", "fatal", "fatal"]


@pytest.mark.parametrize("form", LogFormat)
def test_a_secret_is_in_no_part_of_a_line(tmp_path: Path, form: LogFormat) -> None:
    class Holder:
        def __str__(self) -> str:
            return f"holds {CANARY}"

    with logging_to(tmp_path / "log", form):
        LOGGER.info("starting with %s", CANARY)
        LOGGER.info(
            "x", extra={"url": f"https://a/?t={CANARY}", "deep": [{"a": (Holder(),)}], "as_bytes": CANARY.encode()}
        )
        LOGGER.info("x", extra={"api_key": "not-registered", "env_vars": {"MODE": "not-registered"}})
        LOGGER.error("failed", exc_info=raised(ValueError(f"bad value {CANARY}")))
        LOGGER.info("stack", stack_info=True, extra={"long": "x" * 16_380 + CANARY})
    text = (tmp_path / "log").read_text()
    assert CANARY not in text and "canary-" not in text and "not-registered" not in text
    assert text.count(MARK) >= 6


def test_an_exception_is_told_with_its_traceback(tmp_path: Path) -> None:
    for form in LogFormat:
        with logging_to(tmp_path / form.value, form):
            LOGGER.error("failed", exc_info=raised(ValueError("no\nway")), extra={"service": "a"})
    (line,) = lines(tmp_path / "json")
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: no\nway")
    first, *below = (tmp_path / "text").read_text().splitlines()
    assert first.endswith("syntra.test: failed service=a exception=way")
    assert below[0] == "    Traceback (most recent call last):" and all(each.startswith("    ") for each in below)


@pytest.mark.parametrize("form", LogFormat)
def test_a_value_cannot_forge_a_record_or_move_the_cursor(tmp_path: Path, form: LogFormat) -> None:
    evil = 'x\n2026-01-02T03:04:05.678Z error syntra: forged\r\x1b[2J\x00\u2028\x7f"}'
    with logging_to(tmp_path / "log", form):
        LOGGER.info(evil, extra={"value": evil, "listed": [evil]})
    data = (tmp_path / "log").read_bytes()
    assert data.count(b"\n") == 1 and b"\x1b" not in data and b"\r" not in data and b"\x00" not in data
    if form is LogFormat.JSON:
        assert json.loads(data)["message"] == evil


class Colour(Enum):
    RED = "red"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("never")

    __repr__ = __str__


@pytest.mark.parametrize("form", LogFormat)
def test_no_value_makes_a_log_call_fail_or_a_record_vanish(tmp_path: Path, form: LogFormat) -> None:
    loop: list[object] = []
    loop.append(loop)
    values = [Broken(), loop, {"k": Broken()}, float("nan"), float("inf"), b"\xff", "\ud800", {1: {2, 3}}, Colour.RED]
    values += [10**30, "x" * 1_000_000, list(range(10_000)), object(), None, Path("/x"), raised(ValueError("v"))]
    with alone(), logging_to(tmp_path / "log", form) as handle:
        for value in values:
            LOGGER.info("value", extra={"value": value})
        LOGGER.info("%d and %s", "not a number")
        LOGGER.info("%s", Broken())
        LOGGER.info(Broken())
        assert handle.lost == 0
    written = (tmp_path / "log").read_text().splitlines()
    assert len(written) == len(values) + 3
    assert max(len(line) for line in written) < 20_000
    if form is LogFormat.JSON:
        parsed = lines(tmp_path / "log")
        assert parsed[0]["value"] == "<unprintable: RuntimeError>" and parsed[3]["value"] == "nan"
        assert parsed[8]["value"] == "red" and "arguments do not fit" in parsed[-3]["message"]


def test_a_field_cannot_replace_a_lines_own(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log"):
        LOGGER.info("m", extra={"level": "fake", "timestamp": 1, "logger": "fake", "exception": "fake"})
    (line,) = lines(tmp_path / "log")
    assert (line["level"], line["level_"], line["timestamp_"], line["exception_"]) == ("info", "fake", 1, "fake")
    assert line["logger"] == "syntra.test"


def test_the_level_changes_at_once_and_libraries_stay_quiet_below_info(tmp_path: Path) -> None:
    library = logging.getLogger("somelibrary")
    with logging_to(tmp_path / "log", level="warn") as handle:
        LOGGER.info("no")
        library.info("no")
        library.warning("1")
        handle.set_level("debug")
        LOGGER.debug("2")
        library.debug("no: frames and headers")
        library.info("3")
        handle.set_level("ERROR")
        LOGGER.warning("no")
        with pytest.raises(AgentError, match="use debug, info, warn, error or fatal"):
            handle.set_level("loud")
        LOGGER.error("4")
    assert [line["message"] for line in lines(tmp_path / "log")] == ["1", "2", "3", "4"]


def test_a_moved_file_is_written_until_reopened_and_the_new_one_after(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with logging_to(path) as handle:
        LOGGER.info("1")
        path.rename(tmp_path / "log.1")
        LOGGER.info("2")
        handle.reopen()
        LOGGER.info("3")
    assert [line["message"] for line in lines(tmp_path / "log.1")] == ["1", "2"]
    assert [line["message"] for line in lines(path)] == ["3"]


def test_a_file_that_cannot_be_reopened_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    with logging_to(directory / "log") as handle:
        directory.rename(tmp_path / "moved")
        with pytest.raises(AgentError, match=r"cannot open log file .*; check"):
            handle.reopen()
        LOGGER.info("still here")
    assert lines(tmp_path / "moved" / "log")[0]["message"] == "still here"


def test_a_full_disk_loses_records_counts_them_and_does_not_raise() -> None:
    with logging_to(Path("/dev/full")) as handle:
        LOGGER.info("x")
        LOGGER.info("y")
        assert handle.lost == 2


def test_a_wrong_level_or_file_changes_nothing(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log"):
        for level, path in (("loud", tmp_path / "other"), ("info", tmp_path / "no" / "log")):
            with pytest.raises(AgentError):
                configure(LogFormat.JSON, level, path, Redactor())
        LOGGER.info("still here")
    assert len(lines(tmp_path / "log")) == 1 and not (tmp_path / "other").exists()


def test_configuring_again_replaces_the_first_and_keeps_handlers_of_others(tmp_path: Path) -> None:
    others = list(logging.getLogger().handlers)
    with logging_to(tmp_path / "first"), logging_to(tmp_path / "second"):
        LOGGER.info("x")
        assert len(logging.getLogger().handlers) == len(others) + 1
    assert (tmp_path / "first").read_text() == "" and len(lines(tmp_path / "second")) == 1
    assert logging.getLogger().handlers == others


def test_without_a_file_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(None) as handle:
        LOGGER.info("hello")
        handle.reopen()
    out, err = capsys.readouterr()
    assert out == "" and json.loads(err)["message"] == "hello"
