"""Every command that the documents and the help show is one that the command line takes, by its own parser."""

from __future__ import annotations

import pytest

from syntra.cli.verbs import SUMMARIES
from tests.cli.shown_commands import DOCUMENTS, commands_in, help_of, in_document, in_help, refusal


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_document_is_taken(document: str) -> None:
    assert [(line, said) for line in in_document(document) if (said := refusal(line))] == []


def test_the_documents_show_commands() -> None:
    assert {name for name in DOCUMENTS if len(in_document(name)) > 10} >= {"README.md", "docs/operations.md"}


def test_every_command_in_the_help_of_a_verb_is_taken() -> None:
    assert all(help_of(verb).startswith("usage: ") for verb in SUMMARIES)
    commands = in_help()
    assert "deployments SERVICE" in commands and any(line.startswith("completion zsh > ") for line in commands)
    assert [(line, said) for line in commands if (said := refusal(line))] == []


def test_a_command_that_is_not_taken_is_found() -> None:
    assert "unknown verb dploy" in refusal("dploy web.yml")
    assert "--forcibly" in refusal("deploy --forcibly web.yml")
    assert "not one of" in refusal("telemetry head")
    assert "missing argument" in refusal("rm > removed.txt")
    assert refusal("exec -it web ls --colour") == ""
    assert refusal("secrets set db_url < db_url.txt") == ""


def test_commands_are_found_in_sentences_blocks_and_help() -> None:
    text = "See `syntra-agent ps\nweb`:\n\n$ syntra-agent top   # live\n    syntra-agent ps\n"
    text += "  zsh    syntra-agent version > x\n"
    assert commands_in(text) == ["ps web", "top", "ps", "version > x"]
    assert commands_in("syntra-agent top\nthe syntra-agent runs\n`syntra-agent` runs\nsyntra-agent top") == ["top"]
