"""Journals in directories of tests, and what a kill leaves of them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from syntra.agent.journal.database import Database
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.outbox import Outbox


@dataclass(frozen=True)
class Opened:
    """An open journal."""

    database: Database
    journal: Journal
    outbox: Outbox


@asynccontextmanager
async def opened(directory: Path, *, is_used: bool = True) -> AsyncIterator[Opened]:
    """Open the journal of a directory; closed at the end."""
    database = Database(directory, lock_secs=0.05)
    try:
        await database.open()
        outbox = Outbox(database, is_used=is_used)
        yield Opened(database, Journal(database, outbox), outbox)
    finally:
        await database.close()


def after_a_kill(directory: Path, name: str = "killed") -> Path:
    """A copy of a directory as it is on the disk at this moment: what a kill would leave."""
    return Path(shutil.copytree(directory, directory.with_name(f"{directory.name}-{name}")))
