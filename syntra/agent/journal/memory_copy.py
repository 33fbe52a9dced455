"""A copy of the journal in memory, for the time in which its disk is full. Used in the journal's thread only."""

from __future__ import annotations

import logging
import sqlite3
import time

log = logging.getLogger(__name__)

# How often writing back is tried. It copies the whole journal.
TRY_EVERY_SECS = 1.0
# A full tmpfs, or a quota, is a failed write for SQLite at times (sqlite.org, "Result and Error Codes").
_FAILED_WRITES = (
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
)


class MemoryCopy:
    """The copy, and the way back to the file: one transaction, which happens whole or not at all."""

    def __init__(self) -> None:
        self._copy: sqlite3.Connection | None = None
        self._next_try = 0.0

    @property
    def is_used(self) -> bool:
        """Whether the newest state is in memory only."""
        return self._copy is not None

    def connection_for(self, file: sqlite3.Connection) -> sqlite3.Connection:
        """Where the newest state is: the file, or the copy while the disk is still full."""
        if self._copy is not None and time.monotonic() >= self._next_try:
            self.give_back(file)
        return self._copy or file

    def begin(self, file: sqlite3.Connection) -> None:
        """Continue in memory."""
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        file.backup(copy)
        self._copy = copy
        self._next_try = time.monotonic() + TRY_EVERY_SECS
        log.error("the journal's disk is full; it continues in memory")

    def give_back(self, file: sqlite3.Connection) -> bool:
        """Write the copy to the file, if there is one; False when the disk has no space for it."""
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
    """Whether the disk, or a quota, has no space left; SQLite sees a full tmpfs as a failed write at times."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF == sqlite3.SQLITE_FULL or code in _FAILED_WRITES)
