"""How output may look: whether in colour, whether lines can be written over, how wide, and with which signs."""

from __future__ import annotations

import argparse
import os
from typing import TextIO

from syntra.utils.frozen import frozen

CHOICES = ("auto", "always", "never")
LEAST_COLUMNS = 40
"""A narrower terminal breaks lines by itself."""
UNKNOWN_COLUMNS = 80
"""Of a terminal that does not tell."""

# SGR of ECMA-48 8.3.117.
RED, GREEN, YELLOW, CYAN, DIM, BOLD = 31, 32, 33, 36, 2, 1


@frozen
class Look:
    """What a stream can show. `is_live`: a line can be written over; `has_signs`: it can spell ✓."""

    has_colours: bool
    is_live: bool
    has_signs: bool

    def paint(self, text: str, *codes: int) -> str:
        """The text in colours, if there are any."""
        if not self.has_colours or not text:
            return text
        return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m"

    @property
    def done(self) -> str:
        """The sign of what ended well."""
        return self.paint(self.done_sign, GREEN)

    @property
    def done_sign(self) -> str:
        """The same without colour."""
        return "✓" if self.has_signs else "+"

    @property
    def failed(self) -> str:
        """The sign of what failed."""
        return self.paint("✗" if self.has_signs else "x", RED)


def add_color(parser: argparse.ArgumentParser) -> None:
    """--color."""
    parser.add_argument(
        "--color",
        choices=CHOICES,
        default="auto",
        help="auto (default): in a terminal, unless NO_COLOR is set or TERM is dumb; or always, or never",
    )


def look_of(stream: TextIO, color: str = "auto") -> Look:
    """What `stream` can show. `color` is the option; NO_COLOR (no-color.org) and TERM=dumb decide without it."""
    is_live = stream.isatty() and os.environ.get("TERM", "") != "dumb"
    by_itself = is_live and not os.environ.get("NO_COLOR")
    return Look(
        has_colours=color == "always" or (color == "auto" and by_itself),
        is_live=is_live,
        has_signs=_can_spell(stream, "✓✗⠋…"),
    )


def columns(stream: TextIO) -> int | None:
    """The width of a terminal; of a pipe what COLUMNS says; None where nothing limits a line."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return max(LEAST_COLUMNS, int(given))
    if not stream.isatty():
        return None
    try:
        return max(LEAST_COLUMNS, os.get_terminal_size(stream.fileno()).columns or UNKNOWN_COLUMNS)
    except (OSError, ValueError):
        return UNKNOWN_COLUMNS


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns, with … where it was cut."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def wrapped(sentence: str, stream: TextIO) -> str:
    """The sentence in the lines of a terminal; in a pipe it stays one line."""
    if not stream.isatty():
        return sentence
    # Imported here: most verbs wrap nothing.
    import textwrap

    width = (columns(stream) or 80) - 1
    return "\n".join(textwrap.wrap(sentence, width, break_long_words=False, break_on_hyphens=False))


def seconds(secs: float) -> str:
    """`2.1 s`, `1 min 5 s`."""
    if secs < 60:
        return f"{secs:.1f} s"
    minutes, rest = divmod(round(secs), 60)
    return f"{minutes} min {rest} s"


def _can_spell(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True
