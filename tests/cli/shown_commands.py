"""The command lines that the documents and the help of every verb show."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

from syntra.cli.main import parse
from syntra.cli.verbs import SUMMARIES

ROOT = Path(__file__).parents[2]
RUN = ("README.md", "docs/operations.md")
"""Those whose commands run against an agent; the others show whole setups too."""
# docs/benchmarks.md names what it measures, without arguments.
DOCUMENTS = (
    "README.md",
    *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md") if file.name != "benchmarks.md"),
)
_SHOWN = re.compile(
    r"`syntra-agent\s(?P<within>[^`]+)`"  # in a sentence
    r"|^(?:\$ | {4})?syntra-agent (?P<line>.+)$"  # in a block
    r"|^ +\w+  +syntra-agent (?P<listed>.+)$",  # in help, behind what it is for
    re.MULTILINE,
)
_COMMENT = re.compile(r"\s+# .*")
_SHELL = re.compile(r"(?:^|\s+)[<>|]\s.*")


def commands_in(text: str) -> list[str]:
    """Each command line without the program's name and without comment, once, in the order of the text."""
    found = (match["within"] or match["line"] or match["listed"] for match in _SHOWN.finditer(text))
    return list(dict.fromkeys(_COMMENT.sub("", " ".join(line.split())) for line in found))


def in_document(name: str) -> list[str]:
    """The command lines of a document."""
    return commands_in((ROOT / name).read_text(encoding="utf-8"))


def in_help() -> list[str]:
    """The command lines in the help of every verb."""
    return list(dict.fromkeys(line for verb in SUMMARIES for line in commands_in(help_of(verb))))


def help_of(verb: str) -> str:
    """What `VERB --help` prints."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        parse([verb, "--help"])
    return written.getvalue()


def refusal(line: str) -> str:
    """What the command line says against a line; empty when it takes it. What the shell does with it is left out."""
    written = io.StringIO()
    try:
        with contextlib.redirect_stderr(written), contextlib.redirect_stdout(written):
            parse(shlex.split(_SHELL.sub("", line)))
    except SystemExit as ended:
        return "" if ended.code == 0 else written.getvalue().strip()
    return ""
