"""An agent on a fake engine, opened on the loop of the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.agent_rig import Agent, Machine, running
from tests.agent.fake_engine import FakeEngine
from tests.on_loop import OnLoop


@pytest.fixture
def agent(tmp_path: Path) -> OnLoop[Agent]:
    """An agent that has found nothing to resume."""
    return OnLoop(running(tmp_path, FakeEngine()))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Where one agent runs after another."""
    return Machine(tmp_path / "data")


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory: what a kill leaves there is the same, and hundreds of runs take seconds."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    try:
        yield path
    finally:
        shutil.rmtree(path)
