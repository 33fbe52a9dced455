"""The only way out: text that others wrote is escaped, lines go to stdout, complaints to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TextIO

from syntra.cli.exit_codes import CliError


def printable(text: str, *, keep: str = "") -> str:
    """`text` with everything that could move the cursor, recolour, reorder or hide shown as an escape (`\\x1b`).

    Covers C0, DEL, C1, bidirectional overrides, zero-width characters and lone surrogates; `keep` lists exceptions.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii") for char in text
    )


def out(line: str = "") -> None:
    """One line of ours to stdout, already escaped."""
    write(sys.stdout, line + "\n")


def err(line: str) -> None:
    """A complaint to stderr, escaped here; line ends stay."""
    write(sys.stderr, printable(line, keep="\n\t") + "\n")


def out_json(value: object) -> None:
    """One JSON value on one line; ASCII only, so it is safe on any terminal and in any locale."""
    out(json.dumps(value, ensure_ascii=True))


def write(stream: TextIO, text: str) -> None:
    """Write and flush. A closed pipe passes as BrokenPipeError, everything else (a full disk) as CliError."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise CliError(f"cannot write the output: {exc.strerror}") from exc


def prepare() -> None:
    """Let characters that the locale cannot spell come out as escapes instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_rest() -> None:
    """After a closed pipe: keep the interpreter's own flush at exit from complaining once more."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # not a real file: a test's capture
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
