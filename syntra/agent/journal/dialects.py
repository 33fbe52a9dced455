"""The recognised dialect of each endpoint, stored so that the first messages after a restart are right."""

from __future__ import annotations

import sqlite3

from syntra.agent.journal.database import JournalAccess


class RememberedDialects:
    """One dialect name per endpoint. Every method is one transaction and raises JournalError."""

    def __init__(self, database: JournalAccess) -> None:
        self._database = database

    async def of(self, endpoint: str) -> str | None:
        """The stored dialect of the endpoint."""

        def read(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (_key(endpoint),)).fetchone()
            return str(row[0]) if row else None

        return await self._database.transact(read)

    async def remember(self, endpoint: str, dialect: str) -> None:
        """Store the dialect of the endpoint."""
        await self._database.transact(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_key(endpoint), dialect)
            )
        )


def _key(endpoint: str) -> str:
    return f"dialect/{endpoint}"
