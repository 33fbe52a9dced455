"""A canary's stage, and the commands that promote, abort or cancel an operation: stored before they are answered."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from syntra.agent.journal.database import JournalAccess
from syntra.agent.journal.outbox import Outbox
from syntra.model.fields import Json
from syntra.model.ids import RequestId, ServiceId
from syntra.utils.frozen import frozen


@frozen
class Answered:
    """A command that ends with its response: the fields to store, and the messages to send with it."""

    request_id: RequestId
    kind: str
    service_id: ServiceId
    origin: str
    response: Mapping[str, Json] = field(repr=False)
    messages: Sequence[str] = field(repr=False)


class CanaryRows:
    """The rows that only a canary has. Every method is one transaction."""

    def __init__(self, database: JournalAccess, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def passed(self, operation: RequestId, stage: int) -> None:
        """Store how many of the canary's steps are complete."""
        await self._database.transact(
            lambda connection: connection.execute(
                "UPDATE operations SET stage = max(stage, ?) WHERE request_id = ?", (stage, operation)
            )
        )

    async def promote(self, operation: RequestId, stage: int, command: Answered) -> bool:
        """Promote: `stage` steps count as complete. Returns False and stores nothing when the canary has ended."""

        def write(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                "UPDATE operations SET stage = max(stage, ?) WHERE request_id = ? AND phase = 'running'",
                (stage, operation),
            )
            return self._answered(connection, command, is_done=changed.rowcount > 0)

        return await self._write(write)

    async def abort(self, operation: RequestId, reason: Mapping[str, Json], command: Answered) -> bool:
        """Roll the operation back for `reason`. Returns False and stores nothing once it is committed."""
        sealed = self._database.seal(json.dumps(reason).encode(), f"reason/{operation}").hex()

        def write(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                "UPDATE operations SET phase = 'unwinding', reason = ? WHERE request_id = ? AND phase = 'running'",
                (sealed, operation),
            )
            return self._answered(connection, command, is_done=changed.rowcount > 0)

        return await self._write(write)

    async def answered(self, command: Answered) -> None:
        """The command is done with its answer, and nothing of it is in another row."""
        await self._write(lambda connection: self._answered(connection, command, is_done=True))

    async def _write(self, work: Callable[[sqlite3.Connection], bool]) -> bool:
        done = await self._database.transact(work)
        self._outbox.announce()
        return done

    def _answered(self, connection: sqlite3.Connection, command: Answered, *, is_done: bool) -> bool:
        if not is_done:
            return False
        now = time.time()
        response = self._database.seal(json.dumps(command.response).encode(), f"response/{command.request_id}")
        connection.execute(
            "INSERT INTO commands (request_id, kind, service_id, origin, state, response, received_at, done_at) "
            "VALUES (?, ?, ?, ?, 'done', ?, ?, ?)",
            (command.request_id, command.kind, command.service_id, command.origin, response, now, now),
        )
        self._outbox.put(connection, command.messages)
        return True
