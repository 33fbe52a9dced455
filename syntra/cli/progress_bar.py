"""A progress bar on a terminal; nothing where there is none."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TextIO

from syntra.cli.terminal import write

WIDTH = 30


class ProgressBar:
    """One line that is rewritten. Use as a context manager: the line ends at the end of the block."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def show(self, what: str, done: float, total: float) -> None:
        """Rewrite the line. `done` and `total` are in bytes."""
        if self._is_terminal and total > 0:
            write(self._stream, f"\r{line(what, done, total)}")
            self._is_shown = True

    def end(self) -> None:
        """End the line; the next `show` begins another."""
        if self._is_shown:
            write(self._stream, "\n")
            self._is_shown = False


def line(what: str, done: float, total: float) -> str:
    """`downloading [=====     ]  50 %  12.0 of 24.0 MiB`."""
    share = min(1.0, done / total)
    bar = "=" * round(WIDTH * share)
    return f"{what} [{bar:{WIDTH}}] {share:4.0%}  {done / 2**20:.1f} of {total / 2**20:.1f} MiB"
