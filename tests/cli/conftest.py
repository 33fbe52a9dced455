"""A command line whose agent listens in the directory of the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.fake_agent import Cli


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path / "s", capsys)
