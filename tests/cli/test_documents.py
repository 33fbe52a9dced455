"""Every command that the documents show is one that the command line takes: its verb, and its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from syntra.cli.options import add_common
from syntra.cli.parser import Parser
from syntra.cli.verbs import SUMMARIES, load

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/operations.md")
_SHOWN = re.compile(r"`syntra-agent ([^`\n]+)`|^\s*syntra-agent ([^#\n|>]+)", re.MULTILINE)
_OPTION = re.compile(r"-{1,2}[a-z][a-z-]*")


def shown(document: str) -> list[list[str]]:
    """The words of each command of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [shlex.split(found[1] or found[2]) for found in _SHOWN.finditer(text)]


def mistake(words: list[str]) -> str:
    """What the command line would not take; empty when it takes all of it. What follows a `--` is another's."""
    verb, *rest = words
    if verb.startswith("-"):
        return "" if verb in ("--help", "--version") else f"unknown option {verb}"
    if verb not in SUMMARIES:
        return f"unknown verb {verb}"
    parser = Parser(prog=verb)
    add_common(parser, top=False)
    load(verb).add_arguments(parser)
    own = rest[: rest.index("--")] if "--" in rest else rest
    known = {name for action in parser._actions for name in action.option_strings}
    for word in own:
        option = _OPTION.match(word)
        if verb == "exec" and not word.startswith("-"):
            # The options behind it are the command's.
            if own.index(word) > 0:
                break
            continue
        if option and option[0] not in known and not (verb == "exec" and set(word[1:]) <= set("it")):
            return f"unknown option {option[0]} of {verb}"
    return ""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_document_is_taken(document: str) -> None:
    commands = shown(document)
    assert len(commands) > 10
    assert [(words, wrong) for words in commands if (wrong := mistake(words))] == []


def test_a_command_that_is_not_taken_is_found() -> None:
    assert mistake(["dploy", "web.yml"]) == "unknown verb dploy"
    assert mistake(["deploy", "--forcibly", "web.yml"]) == "unknown option --forcibly of deploy"
    assert mistake(["exec", "-it", "web", "ls", "--colour"]) == ""
