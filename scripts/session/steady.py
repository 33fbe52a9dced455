"""Replaces what differs from run to run in the output of a command: times, ids, durations, figures and names."""

from __future__ import annotations

import re

_HEADING = re.compile(r"[A-Z][A-Z%]*(?: ?[A-Z/]+)*(?:  +[A-Z%][A-Z/% ]*)+")
_RULES = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", "2026-01-05T12:00:00Z"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?", "2026-01-05 12:00:00"),
    (r"\b\d+\.\d s\b", "1.0 s"),
    (r"\b\d+(?:\.\d+)?%", "0.1%"),
    (r"\b\d+(?:\.\d+)? ?(KiB|MiB|GiB|kB|MB|GB)\b", r"1.5 \1"),
    (r"\b(?:\d+s|\d+m\d*s?)(?![\w-])", "5s"),
    (r"\b\d+(?:\.\d+)? ms\b", "1 ms"),
    (r"\b(?:172|192|10)\.\d+\.\d+\.\d+\b", "172.18.0.2"),
)


class Steady:
    """Numbers the ids of one session in the order in which they appear."""

    def __init__(self, token: str, name: str, person: str) -> None:
        self._token, self._name, self._person = token, name, person
        self._ids: dict[str, str] = {}

    def text(self, lines: list[str]) -> list[str]:
        """The lines as they read on every run; the columns of a table are as wide as their cells need."""
        result: list[str] = []
        rows: list[list[str]] = []
        places: list[int] = []
        for line in [*lines, ""]:
            if places and not line.strip():
                result += _aligned(rows)
                rows, places = [], []
            elif not places and _HEADING.fullmatch(line.rstrip()):
                places = [found.start() for found in re.finditer(r"(?:^|(?<=  ))\S", line)]
            if places:
                ends = [*places[1:], len(line) + 1]
                rows.append([self.line(line[a:b].strip()) for a, b in zip(places, ends, strict=True)])
            else:
                result.append(self.line(line.rstrip()))
        return result[:-1]

    def line(self, line: str) -> str:
        """One line, or one cell of a table."""
        line = line.replace(self._token, self._name)
        line = re.sub(r"\bdep_[0-9A-Za-z]+", self._deployment, line)
        line = re.sub(rf"(^|asked by ){re.escape(self._person)}(?=$|\))", r"\1root", line)
        for pattern, fixed in _RULES:
            line = re.sub(pattern, fixed, line)
        return line

    def file(self, text: str) -> list[str]:
        """The lines of a file: nothing in it differs but the token."""
        return text.replace(self._token, self._name).splitlines()

    def _deployment(self, found: re.Match[str]) -> str:
        # The name of a container has the first part of its deployment's id.
        for known, shown in self._ids.items():
            if known.startswith(found[0]) or found[0].startswith(known):
                return shown
        return self._ids.setdefault(found[0], f"dep_{len(self._ids) + 1:02}")


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
