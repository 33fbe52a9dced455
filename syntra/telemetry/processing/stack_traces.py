"""Stack traces of the usual languages as frames of the contract. Pure.

Frames come out with the innermost first, as the Syntra SDKs send them. A trace is text from outside: it is cut to
bounded lines, so that no pattern takes long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import orjson

MAX_FRAMES = 100
"""The most frames of one trace. Of a longer one, the innermost 80 and the outermost 20 stay."""

_OUTERMOST_FRAMES = 20
_MAX_JSON_CHARS = 256 * 1024
_MAX_CHARS = 64 * 1024
_MAX_LINE_CHARS = 500
_MAX_FILENAME_CHARS = 512
_MAX_FUNCTION_CHARS = 256
_MAX_CONTEXT_LINES = 7
_MAX_NUMBER = (1 << 31) - 1

Frame = dict[str, Any]

_PYTHON = re.compile(r' *File "([^"]*)", line (\d{1,9})(?:, in (.*))?')
_NODE = re.compile(r" *at (?:async )?(?:(\S.*?) \()?(\S[^()]*?):(\d{1,9})(?::(\d{1,9}))?\)?")
_FIREFOX = re.compile(r"([^@\s]{0,256})@(\S+?):(\d{1,9})(?::(\d{1,9}))?")
_JAVA = re.compile(r"\s*at ([^\s()]+)\(([\w$-]+\.\w+|Native Method|Unknown Source)(?::(\d{1,9}))?\)")
_DOTNET = re.compile(r"\s*at ([^\s(]+\(.*?\))(?: in (.+):line (\d{1,9}))?")
_GO_FILE = re.compile(r"\t(\S.*?):(\d{1,9})(?: \+0x[0-9a-f]+)?")
_RUBY = re.compile(r"\s*(?:from )?(\S[^:]*):(\d{1,9}):in [`'](.*?)'(?:: .*)?")
_RUST_FUNCTION = re.compile(r"\s*\d{1,6}: (?:0x[0-9a-f]+ - )?(\S.*)")
_RUST_FILE = re.compile(r"\s+at (\S.*?):(\d{1,9})(?::(\d{1,9}))?")
_PHP = re.compile(r"#\d{1,6} (\S.*?)\((\d{1,9})\): (.+)")

_LIBRARY_PATHS = re.compile(
    r"site-packages/|dist-packages/|/lib(?:64)?/python\d|(?:^|/)<frozen |node_modules/|^node:|^internal/|/gems/|"
    r"/lib/ruby/|/go/pkg/mod/|/usr/local/go/|/go/src/runtime/|/rustc/|\.cargo/registry/|/vendor/|^<"
)
_LIBRARY_FUNCTIONS = re.compile(
    r"(?:java|javax|jdk|sun|com\.sun|kotlin|scala|org\.springframework|org\.apache|System|Microsoft)\.|"
    r"(?:std|core|alloc|rust_begin_unwind|runtime|net/http)(?:::|\.)"
)


def frames(trace: str) -> list[Frame]:
    """Read a trace: a JSON array of frames, as the Syntra SDKs send it, or the text of a language. Else no frames."""
    start = trace.lstrip()[:1]
    if start == "[":
        found = _json_frames(trace)
        if found is not None:
            return _bounded(found)
    lines = [line[:_MAX_LINE_CHARS].rstrip() for line in trace[:_MAX_CHARS].splitlines()]
    for parse in _LANGUAGES:
        found = list(parse(lines))
        if found:
            return _bounded(found)
    return []


def is_in_app(filename: str, function: str) -> bool:
    """Whether a frame is the application's own code, judged by where runtimes and packages usually are."""
    return _LIBRARY_PATHS.search(filename) is None and _LIBRARY_FUNCTIONS.match(function) is None


def _frame(filename: str, function: str | None, line: str | None, column: str | None = None) -> Frame:
    frame: Frame = {
        "filename": filename[:_MAX_FILENAME_CHARS],
        "function": (function or "<unknown>")[:_MAX_FUNCTION_CHARS],
        "lineno": min(int(line or 0), _MAX_NUMBER),
    }
    if column:
        frame["colno"] = min(int(column), _MAX_NUMBER)
    frame["in_app"] = is_in_app(frame["filename"], frame["function"])
    return frame


def _bounded(found: list[Frame]) -> list[Frame]:
    if len(found) <= MAX_FRAMES:
        return found
    return found[: MAX_FRAMES - _OUTERMOST_FRAMES] + found[-_OUTERMOST_FRAMES:]


def _python(lines: list[str]) -> Iterable[Frame]:
    # The last block is the exception itself; blocks before it are its causes. Python writes the innermost frame last.
    found: list[Frame] = []
    for line in lines:
        if line.startswith("Traceback (most recent call last)"):
            found = []
        elif match := _PYTHON.fullmatch(line):
            found.append(_frame(match[1], match[3] or "<module>", match[2]))
    return reversed(found)


def _one_per_line(
    pattern: re.Pattern[str], frame: Callable[[re.Match[str]], Frame]
) -> Callable[[list[str]], Iterable[Frame]]:
    def parse(lines: list[str]) -> Iterable[Frame]:
        found: list[Frame] = []
        for line in lines:
            if match := pattern.fullmatch(line):
                found.append(frame(match))
            elif line.startswith("Caused by:"):  # Java: the frames below are those of the cause
                break
            elif line.startswith("   --- End of inner exception"):  # .NET: the frames above were
                found = []
        return found

    return parse


def _go(lines: list[str]) -> Iterator[Frame]:
    for function, place in pairwise(lines):
        match = _GO_FILE.fullmatch(place)
        if match and not function.startswith(("\t", "goroutine ")):
            name = function.removeprefix("created by ")
            yield _frame(match[1], name[: name.rfind("(")] if name.endswith(")") else name, match[2])


def _rust(lines: list[str]) -> Iterator[Frame]:
    for function, place in pairwise(lines):
        name, file = _RUST_FUNCTION.fullmatch(function), _RUST_FILE.fullmatch(place)
        if name and file:
            yield _frame(file[1], name[1], file[2], file[3])


_LANGUAGES: tuple[Callable[[list[str]], Iterable[Frame]], ...] = (
    _python,
    _rust,
    _go,
    _one_per_line(_JAVA, lambda m: _frame(m[2] or "<unknown>", m[1].rpartition("/")[2], m[3])),
    _one_per_line(_NODE, lambda m: _frame(m[2].removeprefix("file://"), m[1] or "<anonymous>", m[3], m[4])),
    _one_per_line(_DOTNET, lambda m: _frame(m[2] or "<unknown>", m[1].partition("(")[0], m[3])),
    _one_per_line(_RUBY, lambda m: _frame(m[1], m[3], m[2])),
    _one_per_line(_PHP, lambda m: _frame(m[1], m[3].partition("(")[0], m[2])),
    _one_per_line(_FIREFOX, lambda m: _frame(m[2], m[1] or "<anonymous>", m[3], m[4])),
)
"""Parsers, the most particular first: each finds no frames in a trace of another language."""


def _json_frames(trace: str) -> list[Frame] | None:
    if len(trace) > _MAX_JSON_CHARS:
        return None
    try:
        given = orjson.loads(trace)
    except orjson.JSONDecodeError:
        return None
    return [_given_frame(item) for item in given if isinstance(item, dict)]


def _given_frame(item: dict[str, Any]) -> Frame:
    filename, function = _text(item.get("filename")), _text(item.get("function"))
    frame = _frame(filename or "<unknown>", function, None)
    frame["lineno"] = _number(item.get("lineno"))
    if isinstance(item.get("colno"), int):
        frame["colno"] = _number(item["colno"])
    if isinstance(item.get("in_app"), bool):
        frame["in_app"] = item["in_app"]
    if isinstance(item.get("context_line"), str):
        frame["context_line"] = item["context_line"][:_MAX_FUNCTION_CHARS]
    for key in ("pre_context", "post_context"):
        if isinstance(item.get(key), list):
            frame[key] = [_text(line)[:_MAX_FUNCTION_CHARS] for line in item[key][:_MAX_CONTEXT_LINES]]
    return frame


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return min(max(int(value), 0), _MAX_NUMBER) if isinstance(value, int) else 0
