"""The rig of the traffic tests, with its journal opened on the loop of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syntra.model.spec import Deployment
from tests.agent.journal.opened import opened
from tests.agent.traffic.rig import Rig, routed
from tests.on_loop import OnLoop


@asynccontextmanager
async def rigged(folder: Path) -> AsyncIterator[Rig]:
    async with opened(folder) as journal:
        yield Rig(folder, journal)


@pytest.fixture
def rig(tmp_path: Path) -> OnLoop[Rig]:
    return OnLoop(rigged(tmp_path))


@pytest.fixture
def of() -> Deployment:
    """A deployment with a domain."""
    return routed()
