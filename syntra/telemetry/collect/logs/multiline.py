"""Decides which lines belong to the line before them: stack traces and indented text, or what a pattern says. Pure.

One joiner for each stream of a container. It sees lines in order, and remembers only what it needs for the next one.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Protocol

from syntra.telemetry.collect.logs.stack_heads import HEAD, PYTHON

PATTERN_CHARS = 256
"""How much of a line a pattern is compared with."""


class Joiner(Protocol):
    """`begin` with the first line of an entry, then ask about each line that follows, or about many at once."""

    def begin(self, line: str) -> None: ...

    def continues(self, line: str) -> bool: ...

    def are_apart(self, lines: Sequence[str]) -> bool:
        """Whether each line would be an entry of its own if the first is one. False is no answer."""
        ...


class Off:
    """Every line is an entry of its own."""

    def begin(self, line: str) -> None:
        """Nothing to remember."""

    def continues(self, line: str) -> bool:
        """Never."""
        return False

    def are_apart(self, lines: Sequence[str]) -> bool:
        """Always."""
        return True


class Pattern:
    """An entry begins with a line that the pattern matches, anywhere in its first 256 characters."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._search = pattern.search

    def begin(self, line: str) -> None:
        """Nothing to remember."""

    def continues(self, line: str) -> bool:
        """Whether the line is none that begins an entry."""
        return self._search(line[:PATTERN_CHARS]) is None

    def are_apart(self, lines: Sequence[str]) -> bool:
        """Whether the pattern matches all lines."""
        return all(self._search(line[:PATTERN_CHARS]) for line in lines)


_PLAIN, _INDENTED, _BLANK, _CLOSED, _PYTHON, _PYTHON_END, _PYTHON_CHAIN, _GO, _RUST_HEAD, _RUST = range(10)

_BEGINS = {"Traceb": _PYTHON, "panic:": _GO, "fatal ": _GO, "gorout": _GO, "thread": _RUST_HEAD}
_LETTERS = frozenset(string.ascii_letters + "_$")
_FIRSTS = frozenset(" \tT").union(begin[0] for begin in _BEGINS)
"""With what a line begins that may belong to others, unless it names an error."""
_GO_LINE = re.compile(
    r"goroutine \d|created by |\[signal |\[recovered|panic: |exit status \d|runtime\.|\.\.\.|r\w{1,3} +0x|"
    r"[\w./*%$·\-\[\]{}<>]+(?:\([^ ]*\)[\w.]*)*\(.*\)$"
)
_CHAIN = ("During handling of the above exception", "The above exception was the direct cause")
_RUST_MORE = ("note: ", "stack backtrace:")
_CLOSING = frozenset(("}", "]", ")", "},", "],", "),", "};", "];", ");", "})", "});", "})."))
_SEVERE = re.compile(r"\b(?:error|err|warn|warning|critical|crit|fatal|severe|exception|panic|failed|failure)\b", re.I)
_SEVERE_CHARS = 300


class Auto:
    """Joins indented lines, and the stack traces of Python, Java, Go, JavaScript, Ruby, Rust and .NET.

    A trace that follows the line by which a program logs it belongs to that line if it speaks of an error.
    """

    __slots__ = ("_first", "_state")

    def __init__(self) -> None:
        self._first = ""
        self._state = _PLAIN

    def begin(self, line: str) -> None:
        """Remember what kind of entry the line begins."""
        self._first = line
        state = _BEGINS.get(line[:6], _PLAIN)
        if (state == _PYTHON and not line.startswith(PYTHON)) or (state == _RUST_HEAD and " panicked at " not in line):
            state = _PLAIN
        if state == _GO and not line.startswith(("panic: ", "fatal error: ", "goroutine ")):
            state = _PLAIN
        self._state = state

    def continues(self, line: str) -> bool:
        """Whether the line belongs to the entry."""
        state = self._state
        first = line[:1]
        if first == " " or first == "\t":
            if line.isspace():
                return self._blank()
            if state in {_PLAIN, _BLANK}:
                self._state = _INDENTED
            elif state == _RUST_HEAD:
                self._state = _RUST
            return True
        if state == _PLAIN:
            # Most lines end here.
            if "Error" not in line and "Exception" not in line and first != "T":
                return False
            return self._begins_trace(line)
        return self._blank() if not line else self._continues_trace(line)

    def are_apart(self, lines: Sequence[str]) -> bool:
        """Whether none of the lines is indented, begins a trace or names an error as the first line of a trace does."""
        firsts = {line[:1] for line in lines}
        if not _FIRSTS.isdisjoint(firsts):
            for line in lines:
                if line[:1] in _FIRSTS and (line[0] in " \t" or line[:6] in _BEGINS or HEAD.fullmatch(line)):
                    return False
        if _LETTERS.isdisjoint(firsts):
            # Such as JSON, or lines with a time first.
            return True
        whole = "\n".join(lines)
        if "Error" in whole or "Exception" in whole:
            return not any(("Error" in line or "Exception" in line) and HEAD.fullmatch(line) for line in lines)
        return True

    def _begins_trace(self, line: str) -> bool:
        is_python = line.startswith(PYTHON)
        if not (is_python or HEAD.fullmatch(line)) or not _SEVERE.search(self._first[:_SEVERE_CHARS]):
            return False
        if HEAD.fullmatch(self._first):
            # Two errors of one line each.
            return False
        self._state = _PYTHON if is_python else _INDENTED
        return True

    def _continues_trace(self, line: str) -> bool:
        state = self._state
        if state == _PYTHON:
            self._state = _PYTHON_END
            return True
        if state in {_PYTHON_END, _PYTHON_CHAIN}:
            if line.startswith(_CHAIN):
                self._state = _PYTHON_CHAIN
                return True
            if state == _PYTHON_CHAIN and line.startswith(PYTHON):
                self._state = _PYTHON
                return True
            return False
        if state == _GO:
            return _GO_LINE.match(line) is not None
        if state == _RUST_HEAD:
            self._state = _RUST
            return True
        if state == _RUST:
            return line.startswith(_RUST_MORE)
        if state == _BLANK:
            # Node.js puts the error behind the place and a blank line.
            if HEAD.fullmatch(line) or line.startswith("Node.js v"):
                self._state = _INDENTED
                return True
            return False
        if state == _INDENTED:
            if line.startswith(("Caused by: ", "Suppressed: ")):
                return True
            if line in _CLOSING:
                self._state = _CLOSED
                return True
        return False

    def _blank(self) -> bool:
        if self._state == _INDENTED:
            self._state = _BLANK
            return True
        return self._state not in {_PLAIN, _CLOSED, _BLANK}
