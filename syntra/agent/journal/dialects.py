"""Which dialect the control plane at an endpoint was heard to speak: kept, so that the first messages are right."""

from __future__ import annotations

import sqlite3

from syntra.agent.journal.database import Database


class RememberedDialects:
    """One word per endpoint. Every method is one transaction; raises JournalError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, endpoint: str) -> str | None:
        """What was remembered for the endpoint."""

        def read(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (_key(endpoint),)).fetchone()
            return str(row[0]) if row else None

        return await self._database.transact(read)

    async def remember(self, endpoint: str, dialect: str) -> None:
        """From now on this is what the endpoint speaks."""
        await self._database.transact(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_key(endpoint), dialect)
            )
        )


def _key(endpoint: str) -> str:
    return f"dialect/{endpoint}"
