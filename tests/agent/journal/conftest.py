"""An empty journal, opened on the loop of the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.journal.opened import Opened, opened
from tests.on_loop import OnLoop


@pytest.fixture
def journal(tmp_path: Path) -> OnLoop[Opened]:
    return OnLoop(opened(tmp_path))
