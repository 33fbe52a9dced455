"""Sets up logging: one record per line, as JSON or text, with secrets removed.

JSON: {"timestamp": RFC 3339 UTC with milliseconds, "level", "logger", "message", the `extra` fields…, "exception"?}.
Text: `timestamp level logger: message key=value …`; a traceback follows on indented lines.
Levels are debug, info, warn, error and fatal. A record that cannot be formatted or written never raises in the code
that logged it: it is shortened, or counted as lost.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from syntra.utils.errors import AgentError

_OWN_PACKAGE = __name__.partition(".")[0]
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "critical": logging.CRITICAL,
}
_NAMES = ((logging.CRITICAL, "fatal"), (logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"))
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_RESERVED = frozenset({"timestamp", "level", "logger", "message", "exception", "stack"})
# Keeps lines readable and limits huge values.
_MAX_TEXT = 16_384
_MAX_ITEMS = 100
_MAX_DEPTH = 6


class LogFormat(Enum):
    """The format of a record."""

    JSON = "json"
    TEXT = "text"


class Cleaner(Protocol):
    """Removes secrets; `syntra.utils.redact.Redactor` fits. Called from every thread that logs."""

    def clean(self, text: str) -> str:
        """`text` without secrets."""
        ...

    def clean_mapping(self, mapping: Mapping[str, object]) -> dict[str, object]:
        """`mapping` without secrets."""
        ...


class LogHandle:
    """The installed logging; a new call of `configure` replaces it."""

    def __init__(self, handler: _LineHandler) -> None:
        self._handler = handler

    @property
    def lost(self) -> int:
        """Records that could not be written since the start."""
        return self._handler.lost

    def set_level(self, level: str) -> None:
        """Change the level: debug, info, warn, error or fatal. Raises AgentError for any other word.

        Below info only this package logs: libraries log whole frames and headers at debug level.
        """
        number = _level_number(level)
        logging.getLogger().setLevel(max(number, logging.INFO))
        logging.getLogger(_OWN_PACKAGE).setLevel(number)

    def reopen(self) -> None:
        """Open the log file again, after logrotate has moved it; does nothing without a file.

        Raises AgentError when the file cannot be opened; the old file then stays in use.
        """
        self._handler.reopen()

    def close(self) -> None:
        """Remove the handler and close the file."""
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()


def configure(format: LogFormat, level: str, file: Path | None, redactor: Cleaner) -> LogHandle:
    """Log all records of this process to `file` (0600, appended) or to stderr, in `format`, from `level` on.

    Replaces the handler of an earlier call and keeps other handlers. Raises AgentError for an unknown level or a file
    that cannot be opened, before it changes anything.
    """
    _level_number(level)
    handler = _LineHandler(file)
    handler.setFormatter(_LineFormatter(format, redactor))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _LineHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    handle = LogHandle(handler)
    handle.set_level(level)
    return handle


class _LineHandler(logging.Handler):
    """Writes each record with as few writes as possible, so that lines of several writers do not mix in one file."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.lost = 0
        self._path = path
        self._file = None if path is None else _open(path)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
            if self._file is None:
                sys.stderr.write(line)
                sys.stderr.flush()
                return
            view = memoryview(line.encode(errors="backslashreplace"))
            while view:
                view = view[os.write(self._file, view) :]
        except Exception:  # noqa: BLE001 - a log call must not fail its caller, whatever a value's __str__ or the disk does
            self.lost += 1

    def reopen(self) -> None:
        if self._path is None:
            return
        fresh = _open(self._path)
        self.acquire()
        try:
            old, self._file = self._file, fresh
        finally:
            self.release()
        if old is not None:
            os.close(old)

    def close(self) -> None:
        self.acquire()
        try:
            old, self._file, self._path = self._file, None, None
        finally:
            self.release()
        if old is not None:
            os.close(old)
        super().close()


class _LineFormatter(logging.Formatter):
    def __init__(self, form: LogFormat, cleaner: Cleaner) -> None:
        super().__init__()
        self._form = form
        self._cleaner = cleaner

    def format(self, record: logging.LogRecord) -> str:
        message = self._clean(_message(record))
        fields = self._fields(record)
        exception = self._clean(_traceback(self, record.exc_info)) if record.exc_info else ""
        stack = self._clean(record.stack_info) if record.stack_info else ""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        timestamp = moment.replace("+00:00", "Z")
        level = next((name for number, name in _NAMES if record.levelno >= number), "debug")
        if self._form is LogFormat.JSON:
            line: dict[str, object] = {"timestamp": timestamp, "level": level, "logger": record.name}
            line["message"] = message
            line.update(fields)
            line.update({name: text for name, text in (("exception", exception), ("stack", stack)) if text})
            return json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        words = [f"{timestamp} {level:<5} {record.name}: {_one_line(message)}"]
        words += [f"{name}={_text_value(value)}" for name, value in fields.items()]
        if exception:
            words.append(f"exception={_text_value(exception.rstrip().rpartition(chr(10))[2])}")
        below = [f"    {_one_line(each)}" for text in (exception, stack) for each in text.splitlines()]
        return "\n".join((" ".join(words), *below))

    def _clean(self, text: str) -> str:
        # Cleaned before it is cut: half a secret at the cut would not be recognised.
        return self._cleaner.clean(text[: 4 * _MAX_TEXT])[:_MAX_TEXT]

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        extra = {name: _plain(value, 0, self._clean) for name, value in vars(record).items() if name not in _STANDARD}
        cleaned = self._cleaner.clean_mapping(extra)
        return {f"{name}_" if name in _RESERVED else name: value for name, value in cleaned.items()}


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise AgentError(f"cannot open log file {path}: {exc.strerror or exc}; check the path") from exc


def _level_number(level: str) -> int:
    try:
        return _LEVELS[level.lower()]
    except KeyError:
        raise AgentError(
            f"cannot set log level {level[:20]!r}: there is no such level; use debug, info, warn, error or fatal"
        ) from None


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a message whose arguments do not fit is still worth logging
        return f"{_safely(lambda: str(record.msg))} (arguments do not fit: {_safely(lambda: repr(record.args))})"


def _traceback(formatter: logging.Formatter, exc_info: tuple[Any, Any, Any]) -> str:
    """The traceback; of a very long one the end, which names the error."""
    return _safely(lambda: formatter.formatException(exc_info))[-_MAX_TEXT:]


def _plain(value: object, depth: int, clean: Callable[[str], str]) -> object:
    """Convert `value` for JSON: bounded in depth, width and length; the depth limit also ends cycles."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Enum):
        return _plain(value.value, depth + 1, clean)
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else clean(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {str(name): _plain(item, depth + 1, clean) for name, item in list(value.items())[:_MAX_ITEMS]}
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth + 1, clean) for item in list(value)[:_MAX_ITEMS]]
    text = _safely(lambda: str(value))
    return text if len(text) <= _MAX_TEXT else clean(text)


def _safely(render: Callable[[], str]) -> str:
    try:
        return render()
    except Exception as exc:  # noqa: BLE001 - a broken __str__ must not hide its record
        return f"<unprintable: {type(exc).__name__}>"


def _text_value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return _one_line(json.dumps(text, ensure_ascii=not text.isprintable()))


def _one_line(text: str) -> str:
    """Escape control characters: a value cannot forge a second record or move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
