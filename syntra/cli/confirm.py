"""Asks before something is done, where a person can answer."""

from __future__ import annotations

import sys

from syntra.cli.terminal import write

_YES = ("y", "yes")


def can_ask() -> bool:
    """Whether a person reads and types."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirmed(question: str) -> bool:
    """Ask on the terminal; anything but `y` or `yes` is no."""
    write(sys.stdout, f"{question} [y/N] ")
    return sys.stdin.readline().strip().lower() in _YES
