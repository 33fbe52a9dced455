"""A deployment as it goes: a line for each step with its time, live in a terminal; plain lines in a pipe.

The agent names each step when it begins, so a step ends when the next one begins. A message with `detail` says how far
the step is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from syntra.cli.look import CYAN, DIM, Look, columns, cut, seconds
from syntra.cli.reading import Json, number, text
from syntra.cli.terminal import out, out_json, printable, write

ENDED = ("running", "failed", "rolled_back")
DRAW_SECS = 0.1
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES = "|/-\\"
# CR and "erase in line" (ECMA-48 8.3.41).
_AGAIN = "\r\x1b[2K"
_LATE_PHASES = {"stop_old": "stopping", "cleanup": "finishing"}
"""The contract has no status for these phases: `starting: stop …` would contradict itself."""


class View(Protocol):
    """Shows the reports of one operation."""

    def show(self, event: Json) -> None:
        """Show a report."""

    def tick(self) -> None:
        """Time passes without a report; called every DRAW_SECS."""

    def close(self, *, is_good: bool | None) -> None:
        """End the last line. None: the operation continues without this view."""


class JsonView:
    """Every report as one JSON line."""

    def show(self, event: Json) -> None:
        out_json(event)

    def tick(self) -> None:
        """Nothing moves."""

    def close(self, *, is_good: bool | None) -> None:
        """No line is open."""


class PlainView:
    """One line for each change, with its time, for pipes and logs. The reason of a failure is left to the caller."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._before = ""
        self._percent = 0.0

    def show(self, event: Json) -> None:
        if text(event, "status") in ENDED:
            return
        line = self._sentence(event)
        if line != self._before:
            out(stamped(line, self._now()))
        self._before = line

    def tick(self) -> None:
        """Nothing moves."""

    def close(self, *, is_good: bool | None) -> None:
        """No line is open."""

    def _sentence(self, event: Json) -> str:
        percent = number(event, "progress_percent")
        self._percent = max(self._percent, percent or 0.0)
        doing = text(event, "status")
        if doing in ("starting", "health_checking"):
            doing = _LATE_PHASES.get(text(event, "phase"), doing)
        shown = f"{self._percent:3.0f}% " if percent is not None else ""
        said, detail = text(event, "message", text(event, "phase")), text(event, "detail", "")
        more = f", {detail}" if detail and detail != said else ""
        return printable(f"{shown}{doing}: {said}{more}")


class LiveView:
    """One line for each step; the line of the running one is written over until the step ends."""

    def __init__(self, look: Look, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._step = ""
        self._detail = ""
        self._began = clock()
        self._drawn = float("-inf")
        self._frame = 0
        self._is_rolling_back = False

    def show(self, event: Json) -> None:
        status, detail = text(event, "status"), text(event, "detail", "")
        if status in ENDED or status == "pending":
            return
        if event.get("rolling_back") is True and not self._is_rolling_back:
            self._end(self._look.failed)
            self._step, self._is_rolling_back = "", True
            out("rolling back:")
        if detail:
            self._detail = printable(detail)
        elif (step := printable(text(event, "message", text(event, "phase")))) != self._step:
            self._end(self._look.done)
            self._step, self._detail, self._began = step, "", self._clock()
        self._draw()

    def tick(self) -> None:
        if self._step and self._clock() - self._drawn >= DRAW_SECS:
            self._frame += 1
            self._draw()

    def close(self, *, is_good: bool | None) -> None:
        if is_good is None and self._step:
            write(sys.stdout, "\n")
        elif is_good is not None:
            self._end(self._look.done if is_good or self._is_rolling_back else self._look.failed)
        self._step = ""

    def _end(self, sign: str) -> None:
        if self._step:
            write(sys.stdout, f"{_AGAIN}{self._line(sign, detail='')}\n")

    def _draw(self) -> None:
        self._drawn = self._clock()
        frames = _FRAMES if self._look.has_signs else _PLAIN_FRAMES
        sign = self._look.paint(frames[self._frame % len(frames)], CYAN)
        write(sys.stdout, f"{_AGAIN}{self._line(sign, detail=self._detail)}")

    def _line(self, sign: str, *, detail: str) -> str:
        # A line wider than the terminal could not be written over.
        room = (columns(sys.stdout) or 80) - 1
        spent = seconds(self._clock() - self._began)
        behind = f"{detail}  {spent}" if detail else spent
        behind = cut(behind, room // 2)
        step = cut(self._step, room - len(behind) - 4)
        return f"{sign} {step}  {self._look.paint(behind, DIM)}"


def stamped(line: str, now: datetime) -> str:
    """The line after its time (RFC 3339, UTC)."""
    return f"{now:%Y-%m-%dT%H:%M:%SZ} {line}"
