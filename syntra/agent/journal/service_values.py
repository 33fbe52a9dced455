"""One sealed value for each service, changed by a command that is done at once: both are stored in one transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from syntra.agent.journal.database import JournalAccess
from syntra.agent.journal.outbox import Outbox
from syntra.model.fields import Fields, Json
from syntra.model.ids import RequestId, ServiceId
from syntra.utils.frozen import frozen

T = TypeVar("T")


@frozen
class ValueTable(Generic[T]):
    """A table of the journal: columns `service_id` and `column`. Values are sealed for `context`/SERVICE."""

    name: str
    column: str
    context: str
    parse: Callable[[Fields], T]
    render: Callable[[T], Mapping[str, Json]]


class ServiceValues(Generic[T]):
    """The rows of such a table. Every method is one transaction."""

    def __init__(self, table: ValueTable[T], database: JournalAccess, outbox: Outbox) -> None:
        self._table = table
        self._database = database
        self._outbox = outbox

    async def all(self) -> dict[ServiceId, T]:
        """The value of every service that has one."""
        table = self._table

        def read(connection: sqlite3.Connection) -> dict[ServiceId, T]:
            rows = connection.execute(f"SELECT service_id, {table.column} FROM {table.name}").fetchall()
            return {ServiceId(row[0]): self._opened(row[0], row[1]) for row in rows}

        return await self._database.transact(read)

    async def of(self, service_id: ServiceId) -> T | None:
        """The value of a service; None without one."""
        table = self._table

        def read(connection: sqlite3.Connection) -> T | None:
            query = f"SELECT {table.column} FROM {table.name} WHERE service_id = ?"
            row = connection.execute(query, (service_id,)).fetchone()
            return self._opened(service_id, row[0]) if row else None

        return await self._database.transact(read)

    async def put(
        self,
        service_id: ServiceId,
        value: T | None,
        *,
        request_id: RequestId,
        kind: str,
        origin: str,
        response: Mapping[str, Json],
        messages: Sequence[str],
    ) -> None:
        """Store a value, or with None its end, together with its command of this kind and the response."""
        table, database = self._table, self._database

        def write(connection: sqlite3.Connection) -> None:
            answer = database.seal(json.dumps(response).encode(), f"response/{request_id}")
            connection.execute(
                "INSERT INTO commands (request_id, kind, service_id, origin, state, response, received_at, done_at) "
                "VALUES (?1, ?2, ?3, ?4, 'done', ?5, ?6, ?6)",
                (request_id, kind, service_id, origin, answer, time.time()),
            )
            if value is None:
                connection.execute(f"DELETE FROM {table.name} WHERE service_id = ?", (service_id,))
            else:
                sealed = database.seal(json.dumps(table.render(value)).encode(), f"{table.context}/{service_id}")
                connection.execute(f"INSERT OR REPLACE INTO {table.name} VALUES (?, ?)", (service_id, sealed))
            self._outbox.put(connection, messages)

        await database.transact(write)
        self._outbox.announce()

    def _opened(self, service_id: str, sealed: bytes) -> T:
        context = f"{self._table.context}/{service_id}"
        return self._table.parse(Fields(json.loads(self._database.unseal(sealed, context))))
