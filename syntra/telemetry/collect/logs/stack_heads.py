"""Finds the exception in text that a program printed: its type, its message, and where its stack trace begins. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

PYTHON = "Traceback (most recent call last):"

_TYPE = r"(?:[A-Za-z_$][\w$]*(?:\.|::))*[A-Za-z_$][\w$]*"
HEAD = re.compile(
    rf"(?:Uncaught |Unhandled exception\. |Unhandled Exception: |Exception in thread \"[^\"]{{0,200}}\" )?"
    rf"({_TYPE}(?:Exception|Error|Throwable|Exit|Interrupt|Warning|Fault)[\w$]*)(?: \[[\w ]{{1,60}}\])?(?::\s?(.*))?"
)
"""The first line of an exception in Java, JavaScript or .NET, and the last of one in Python."""
_PLAIN_TYPE = re.compile(rf"({_TYPE})(?::\s?(.*))?")
_FRAME = re.compile(r"\s+at \S")
_RUBY = re.compile(r".{1,500}?:\d{1,9}:in [`'].{0,200}?': (.*) \(((?:\w+::)*\w+)\)")
_RUST = re.compile(r"thread '.{0,200}?' (?:\(\d+\) )?panicked at (?:'(.*)', )?.*")
_MAX_LINES = 400
_MAX_LINE_CHARS = 2000


def exception_in(text: str) -> Mapping[str, str]:
    """Attributes `exception.type`, `exception.message` and `exception.stacktrace`; none if the text has no trace."""
    lines = [line[:_MAX_LINE_CHARS] for line in text.split("\n", _MAX_LINES)[:_MAX_LINES]]
    for at, line in enumerate(lines):
        if line.startswith(("panic: ", "fatal error: ")):
            kind, _, message = line.partition(": ")
            return _found(kind, message, lines[at:])
        if line.lstrip("+ ").startswith(PYTHON) or line.endswith("Exception Group " + PYTHON):
            return _python(lines[at:])
        if (rust := _RUST.fullmatch(line)) is not None:
            message = rust[1] or (lines[at + 1] if at + 1 < len(lines) else "")
            return _found("panic", message, lines[at:])
        if at + 1 < len(lines) and lines[at + 1][:1] in {" ", "\t"}:
            if _FRAME.match(lines[at + 1]) and (head := _head_at_end(line)) is not None:
                return _found(*head, lines[at:])
            if (ruby := _RUBY.fullmatch(line)) is not None:
                return _found(ruby[2], ruby[1], lines[at:])
    return {}


def _head_at_end(line: str) -> tuple[str, str] | None:
    """Type and message of `… level: Type: message`: the first place in the line where an exception begins."""
    head = HEAD.fullmatch(line)
    if head is not None:
        return head[1], head[2] or ""
    for word in re.finditer(r"(?<=[\s\]:>])[A-Za-z_$]", line[:500]):
        head = HEAD.fullmatch(line, word.start())
        if head is not None:
            return head[1], head[2] or ""
    plain = _PLAIN_TYPE.fullmatch(line)
    return (plain[1], plain[2] or "") if plain is not None else None


def _python(lines: list[str]) -> Mapping[str, str]:
    # The exception is the first line without indent behind the last traceback; lines behind it continue its message.
    begin = max(at for at, line in enumerate(lines) if PYTHON in line)
    for at in range(begin + 1, len(lines)):
        line = lines[at].lstrip("| ") if lines[begin].startswith(" ") else lines[at]
        if line and line[0] not in " \t":
            head = _PLAIN_TYPE.fullmatch(line)
            if head is not None:
                return _found(head[1], head[2] or "", lines)
    return _found("Error", "", lines)


def _found(kind: str, message: str, lines: list[str]) -> Mapping[str, str]:
    return {
        "exception.type": kind,
        "exception.message": message.strip(),
        "exception.stacktrace": "\n".join(lines).rstrip(),
    }
