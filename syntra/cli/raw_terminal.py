"""The terminal of this process, handed to a command: raw while it runs, and as it was before in any case."""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def size_of_terminal(descriptor: int) -> tuple[int, int]:
    """Rows and columns, 0 where they are unknown."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return size.lines, size.columns


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Pass every key on as it comes. SIGTERM and SIGHUP end the block by SystemExit, so that it is undone then too."""
    before = termios.tcgetattr(descriptor)

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers = {number: signal.signal(number, end) for number in _ENDING}
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        # The terminal itself may be gone.
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def resizes(write_to: int) -> Iterator[None]:
    """Write a byte to a descriptor whenever the size of the terminal changes."""

    def changed(_number: int, _: FrameType | None) -> None:
        # Full means that one is waiting already.
        with suppress(BlockingIOError):
            os.write(write_to, b"\0")

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
