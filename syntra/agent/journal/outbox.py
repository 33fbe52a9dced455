"""Messages that must reach the control plane: numbered, bounded, kept until the control plane has read them."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence

from syntra.agent.journal import budget
from syntra.agent.journal.database import JournalAccess, JournalError
from syntra.connection.writer import OutboxItem

log = logging.getLogger(__name__)

# A control plane that is unreachable for weeks must not fill the disk: the oldest messages are dropped and counted.
MAX_MESSAGES = 10_000


class Outbox:
    """The outgoing queue in the journal; it also works while the disk is full.

    Without a control plane `is_used` is false, and nothing is stored.
    """

    def __init__(self, database: JournalAccess, *, is_used: bool) -> None:
        self._database = database.without_disk()
        self._is_used = is_used
        self._arrived = asyncio.Event()
        self.dropped = 0
        # Bytes since the budget was last checked; the first message finds what an earlier run left.
        self._added = budget.SLACK_BYTES

    def put(self, connection: sqlite3.Connection, messages: Sequence[str]) -> None:
        """Add messages in the caller's transaction; call `announce` after its commit."""
        if not self._is_used:
            return
        for text in messages:
            sealed = self._database.seal(text.encode(), "outbox")
            connection.execute("INSERT INTO outbox (message, at) VALUES (?, ?)", (sealed, time.time()))
            self._added += len(sealed)
        surplus = connection.execute("SELECT count(*) FROM outbox").fetchone()[0] - MAX_MESSAGES
        if surplus > 0:
            connection.execute(
                "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT ?)", (surplus,)
            )
            self.dropped += surplus
        if self._added >= budget.SLACK_BYTES:
            self._added = 0
            self.dropped += budget.drop_messages(connection)

    def announce(self) -> None:
        """Wake the sender."""
        self._arrived.set()

    async def add(self, text: str) -> None:
        """Add one message in its own transaction."""
        await self._database.transact(lambda connection: self.put(connection, [text]))
        self.announce()

    async def pending(self, limit: int) -> Sequence[OutboxItem]:
        """The oldest messages that wait, at most `limit`. An unreadable one is dropped, so that it blocks no other."""

        def read(connection: sqlite3.Connection) -> list[OutboxItem]:
            while True:
                rows = connection.execute("SELECT seq, message FROM outbox ORDER BY seq LIMIT ?", (limit,)).fetchall()
                items = [item for row in rows if (item := self._item(connection, *row)) is not None]
                if items or not rows:
                    return items

        return await self._database.transact(read)

    def _item(self, connection: sqlite3.Connection, seq: int, sealed: bytes) -> OutboxItem | None:
        try:
            return OutboxItem(seq=seq, text=self._database.unseal(sealed, "outbox").decode())
        except (JournalError, UnicodeDecodeError) as broken:
            log.error("message is unreadable and was dropped", extra={"seq": seq, "reason": str(broken)})
            connection.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
            self.dropped += 1
            return None

    async def taken(self, seq: int) -> None:
        """Delete a message that the control plane has read."""
        await self._database.transact(lambda connection: connection.execute("DELETE FROM outbox WHERE seq = ?", (seq,)))

    async def replace(self, seq: int, text: str | None) -> None:
        """Replace a message that cannot be delivered by a short one; None deletes it."""

        def write(connection: sqlite3.Connection) -> None:
            if text is None:
                self.dropped += connection.execute("DELETE FROM outbox WHERE seq = ?", (seq,)).rowcount
                return
            sealed = self._database.seal(text.encode(), "outbox")
            connection.execute("UPDATE outbox SET message = ? WHERE seq = ?", (sealed, seq))

        await self._database.transact(write)

    async def wait(self) -> None:
        """Return when the outbox has messages; at once when it has some from an earlier run."""
        while True:
            self._arrived.clear()
            if await self.size():
                return
            await self._arrived.wait()

    async def size(self) -> int:
        """The number of messages in the outbox."""
        return await self._database.transact(
            lambda connection: int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])
        )
