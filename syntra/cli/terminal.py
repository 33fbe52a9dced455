"""All output: escapes foreign text, prints lines to stdout and errors to stderr."""

from __future__ import annotations

import io
import os
import sys

from syntra.cli.exit_codes import CliError

# What type checkers take for true. `typing` itself costs a short verb an eighth of its time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def printable(text: str, *, keep: str = "") -> str:
    """Escape everything in `text` that could move the cursor, change colours, reorder or hide text (`\\x1b`).

    Covers C0, DEL, C1, bidirectional overrides, zero-width characters and lone surrogates; `keep` lists exceptions.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )


def out(line: str = "") -> None:
    """Print one line, already escaped, to stdout."""
    write(sys.stdout, line + "\n")


def err(line: str) -> None:
    """Print an error to stderr; escapes it, except line ends."""
    write(sys.stderr, printable(line, keep="\n\t") + "\n")


def out_json(value: object) -> None:
    """One JSON value on one line; ASCII only, so it is safe in any terminal and locale."""
    # Imported here: most verbs print no JSON.
    import json

    out(json.dumps(value, ensure_ascii=True))


def write(stream: TextIO, text: str) -> None:
    """Write and flush. A closed pipe raises BrokenPipeError, any other error (a full disk) CliError."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise CliError(f"cannot write the output: {exc.strerror}") from exc


def prepare() -> None:
    """Print characters that the locale cannot encode as escapes instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_rest() -> None:
    """After a closed pipe: keep the interpreter's flush at exit from printing another error."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # not a real file, such as a test's capture
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
