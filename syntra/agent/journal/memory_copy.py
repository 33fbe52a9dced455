"""A copy of the journal in memory, for as long as its disk is full. Used in the journal's thread only."""

from __future__ import annotations

import logging
import sqlite3
import time

log = logging.getLogger(__name__)

# How often to try to write back, which copies the whole journal.
TRY_EVERY_SECS = 1.0
# SQLite sometimes reports a full tmpfs or a quota as a failed write (sqlite.org, "Result and Error Codes").
_FAILED_WRITES = (
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
)


class MemoryCopy:
    """The copy. It is written back to the file in one transaction."""

    def __init__(self) -> None:
        self._copy: sqlite3.Connection | None = None
        self._next_try = 0.0

    @property
    def is_used(self) -> bool:
        """Whether the newest state is only in memory."""
        return self._copy is not None

    def connection_for(self, file: sqlite3.Connection) -> sqlite3.Connection:
        """The connection with the newest state: the file, or the copy while the disk is full."""
        if self._copy is not None and time.monotonic() >= self._next_try:
            self.give_back(file)
        return self._copy or file

    def begin(self, file: sqlite3.Connection) -> bool:
        """Copy the file to memory and continue there. Returns False when the file cannot be read either."""
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            file.backup(copy)
        except sqlite3.Error as unreadable:
            copy.close()
            log.error("the journal's disk is full and the file cannot be read", extra={"reason": str(unreadable)})
            return False
        self._copy = copy
        self._next_try = time.monotonic() + TRY_EVERY_SECS
        log.error("the journal's disk is full; it continues in memory")
        return True

    def give_back(self, file: sqlite3.Connection) -> bool:
        """Write the copy, if there is one, to the file. Returns False when the disk has no space for it."""
        if self._copy is None:
            return True
        self._next_try = time.monotonic() + TRY_EVERY_SECS
        try:
            self._copy.backup(file)
        except sqlite3.Error as still_full:
            log.debug("the journal stays in memory", extra={"reason": str(still_full)})
            return False
        self._copy.close()
        self._copy = None
        log.info("the journal is on disk again")
        return True


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk or a quota is full; SQLite sometimes reports a full tmpfs as a failed write."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF == sqlite3.SQLITE_FULL or code in _FAILED_WRITES)
