"""A command line whose agent listens in the directory of the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.fake_agent import Cli


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path / "s", capsys)


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parallel run of the tests sets COLUMNS, which says how wide the output of a pipe may be."""
    monkeypatch.delenv("COLUMNS", raising=False)
