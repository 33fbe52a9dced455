"""The secrets that variables of services refer to, encrypted with the journal's key."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable

from syntra.agent.journal.database import JournalAccess, JournalError
from syntra.model.errors import RequestError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

MOST_SECRETS = 1000


@frozen
class StoredSecret:
    """A secret's name, and when its value was set (epoch seconds)."""

    name: str
    at: float


class SecretRows:
    """The rows. Every method is one transaction."""

    def __init__(self, database: JournalAccess) -> None:
        self._database = database

    async def put(self, name: str, value: str) -> bool:
        """Store a secret; whether it replaced one. Raises RequestError (LIMIT_REACHED) above MOST_SECRETS."""

        def write(connection: sqlite3.Connection) -> bool:
            is_known = connection.execute("SELECT 1 FROM secrets WHERE name = ?", (name,)).fetchone() is not None
            count = connection.execute("SELECT count(*) FROM secrets").fetchone()[0]
            if not is_known and count >= MOST_SECRETS:
                raise RequestError(
                    "LIMIT_REACHED",
                    f"cannot set secret {name}: there are {count} already; remove those that no service uses",
                )
            sealed = self._database.seal(value.encode(), _context(name))
            connection.execute(
                "INSERT INTO secrets VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET value = ?2, at = ?3",
                (name, sealed, time.time()),
            )
            return is_known

        return await self._database.transact(write)

    async def values(self, names: Iterable[str]) -> dict[str, str]:
        """The values of secrets; without any that is not set or not readable."""
        wanted = sorted(set(names))

        def read(connection: sqlite3.Connection) -> dict[str, str]:
            found = {}
            for name in wanted:
                row = connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
                if row is None:
                    continue
                try:
                    found[name] = self._database.unseal(row[0], _context(name)).decode()
                except (JournalError, UnicodeDecodeError) as broken:
                    log.error("secret is unreadable", extra={"secret_name": name, "reason": str(broken)})
            return found

        return await self._database.transact(read)

    async def all(self) -> list[StoredSecret]:
        """The secrets by name, without their values."""

        def read(connection: sqlite3.Connection) -> list[StoredSecret]:
            rows = connection.execute("SELECT name, at FROM secrets ORDER BY name").fetchall()
            return [StoredSecret(name=row[0], at=row[1]) for row in rows]

        return await self._database.transact(read)

    async def remove(self, name: str) -> bool:
        """Forget a secret; whether there was one."""
        return await self._database.transact(
            lambda connection: connection.execute("DELETE FROM secrets WHERE name = ?", (name,)).rowcount > 0
        )


def _context(name: str) -> str:
    return f"secret/{name}"
