"""Runs the command line in a pseudo-terminal of a given size, as a person does."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WAIT_SECS = 120.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(slots=True)
class Ended:
    """`raw` is everything that was written; `lines` what a person sees of it at the end, without colours."""

    code: int
    raw: str

    @property
    def lines(self) -> list[str]:
        """The last state of each line."""
        return [_CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in self.raw.split("\n")]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def run_in_terminal(
    argv: Sequence[str],
    *,
    columns: int = 80,
    environment: Mapping[str, str] | None = None,
    answers: Sequence[tuple[str, str]] = (),
) -> Ended:
    """Run to its end. `answers`: what to type once a text was shown, in this order."""
    pid, end = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        os.execvpe(
            argv[0], [*argv], {**inherited, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(environment or {})}
        )
    waiting, shown, data = list(answers), 0, b""
    deadline = time.monotonic() + WAIT_SECS
    while time.monotonic() < deadline:
        if select.select([end], [], [], 0.1)[0]:
            try:
                piece = os.read(end, 65536)
            except OSError:  # how Linux tells the end of a terminal
                break
            data += piece
        if waiting and waiting[0][0].encode() in data[shown:]:
            shown = len(data)
            os.write(end, waiting.pop(0)[1].encode())
    else:
        os.kill(pid, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(end)
    return Ended(code=code, raw=data.decode(errors="replace"))
