"""The SQLite file behind the journal: opened, checked, set aside when broken, and driven from one thread.

WAL with synchronous=FULL: a commit that returned survives a power cut (SQLite, "PRAGMA synchronous"). All access goes
through one worker thread, so the event loop never waits for a disk and transactions never interleave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from syntra.agent.journal import budget
from syntra.agent.journal.memory_copy import MemoryCopy, is_full
from syntra.utils.errors import AgentError
from syntra.utils.sealed_box import DamagedKey, SealedBox, Unsealable

log = logging.getLogger(__name__)
T = TypeVar("T")

SCHEMA_VERSION = 1
FILE_NAME = "journal.db"
KEY_NAME = "journal.key"
SHUTDOWN_SECS = 10.0
LOCK_SECS = 5.0
# SQLite's codes for a damaged file, or for a file that is not a journal (a missing table). Other codes are about the
# disk or another process that holds the file.
_BROKEN_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
# The columns that an operation needs later, with their encryption contexts. Answers of finished commands are left out:
# losing one does little harm.
_SEALED = (
    "SELECT payload, 'payload/' || request_id FROM commands WHERE state = 'running' AND payload IS NOT NULL",
    "SELECT reason, 'reason/' || request_id FROM operations WHERE reason != ''",
    "SELECT spec, 'spec/' || service_id || '/' || deployment_id FROM deployments",
    "SELECT change, 'health/' || service_id FROM health_changes",
    "SELECT pause, 'pause/' || service_id FROM pauses",
)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE commands (
    request_id TEXT PRIMARY KEY, kind TEXT NOT NULL, service_id TEXT NOT NULL, origin TEXT NOT NULL,
    state TEXT NOT NULL, payload BLOB, response BLOB, report BLOB, received_at REAL NOT NULL, done_at REAL);
CREATE TABLE operations (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, service_id TEXT NOT NULL,
    deployment_id TEXT NOT NULL, phase TEXT NOT NULL, prior TEXT NOT NULL, begun_at REAL, reason TEXT NOT NULL);
CREATE TABLE steps (
    request_id TEXT NOT NULL, position INTEGER NOT NULL, text TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX steps_of ON steps (request_id);
CREATE TABLE deployments (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, service_id TEXT NOT NULL, deployment_id TEXT NOT NULL,
    spec BLOB NOT NULL, succeeded INTEGER NOT NULL, at REAL NOT NULL, UNIQUE (service_id, deployment_id));
CREATE TABLE services (
    service_id TEXT PRIMARY KEY, deployment_id TEXT NOT NULL, replicas INTEGER NOT NULL, stopped INTEGER NOT NULL,
    at REAL NOT NULL);
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, message BLOB NOT NULL, at REAL NOT NULL);
"""
# Additions since that schema. The version stays the same: older journals receive them, and an older agent that opens
# the file again, as after an update that was rolled back, ignores them.
_ADDED = """
CREATE TABLE IF NOT EXISTS health_changes (service_id TEXT PRIMARY KEY, change BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pauses (service_id TEXT PRIMARY KEY, pause BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS episodes (
    kind TEXT NOT NULL, key TEXT NOT NULL, episode BLOB NOT NULL, PRIMARY KEY (kind, key));
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, service_id TEXT NOT NULL, event BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS history (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, service_id TEXT NOT NULL, deployment_id TEXT NOT NULL,
    record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL, at REAL NOT NULL);
"""
_ADDED_COLUMNS = (
    ("operations", "stage", "INTEGER NOT NULL DEFAULT 0"),
    ("deployments", "image_id", "TEXT NOT NULL DEFAULT ''"),
    ("deployments", "image_digest", "TEXT NOT NULL DEFAULT ''"),
)


class JournalError(AgentError):
    """The journal can neither be used nor replaced."""

    code = "JOURNAL"


class JournalAccess(Protocol):
    """The database as the journal's parts use it."""

    @property
    def warning(self) -> str:
        """See `Database.warning`."""

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """See `Database.transact`."""

    def seal(self, plaintext: bytes, context: str) -> bytes:
        """See `Database.seal`."""

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """See `Database.unseal`."""

    def mark_surveyed(self, connection: sqlite3.Connection) -> None:
        """See `Database.mark_surveyed`."""

    def without_disk(self) -> JournalAccess:
        """See `Database.without_disk`."""


class Database:
    """One open journal file.

    `was_rebuilt` says why an earlier file was set aside; it is empty when none was. `is_surveyed` is false until the
    services of a lost journal were read from the engine; it is stored, as the engine may start after the agent.

    While the disk is full, transactions of `without_disk` go to a copy in memory, which is written back when there is
    space; every other transaction that writes is refused. `filled` is set meanwhile.
    """

    def __init__(self, data_dir: Path, *, lock_secs: float = LOCK_SECS) -> None:
        """`lock_secs` is how long to wait for another process that holds the file."""
        self._path = data_dir / FILE_NAME
        self._key = data_dir / KEY_NAME
        self._lock_secs = lock_secs
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._connection: sqlite3.Connection | None = None
        self._copy = MemoryCopy()
        self.filled = asyncio.Event()
        self._box: SealedBox | None = None
        self.was_rebuilt = ""
        self.is_surveyed = False

    async def open(self) -> None:
        """Open or create the file (0600). Raises JournalError when neither works."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close the file, after running transactions end or a deadline passes."""
        try:
            async with asyncio.timeout(SHUTDOWN_SECS):
                await self._run(self._close)
        finally:
            self._thread.shutdown(wait=False)

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction: committed when it returns, rolled back when it raises.

        Raises JournalError when it cannot be written. Cancelling the caller does not roll back: the
        transaction still completes.
        """
        return await self._transacted(work, needs_disk=True)

    def without_disk(self) -> JournalAccess:
        """The same journal, for work that must succeed on a full disk: answers, alerts and removal."""
        return WithoutDisk(self)

    async def transact_without_disk(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`transact`, in memory while the disk is full: lost if the agent ends before there is space."""
        return await self._transacted(work, needs_disk=False)

    async def _transacted(self, work: Callable[[sqlite3.Connection], T], *, needs_disk: bool) -> T:
        try:
            return await self._run(lambda: self._transact(work, needs_disk=needs_disk))
        finally:
            (self.filled.set if self._copy.is_used else self.filled.clear)()

    @property
    def warning(self) -> str:
        """A sentence for `status` while the disk is full; else empty."""
        if not self._copy.is_used:
            return ""
        return (
            f"the disk of {self._path.parent} is full: stop and status work, other commands are refused; what changes "
            "now is lost if the agent ends; free some space"
        )

    def mark_surveyed(self, connection: sqlite3.Connection) -> None:
        """Set `is_surveyed`, in the caller's transaction."""
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('surveyed', ?)", (str(time.time()),))
        self.is_surveyed = True

    def seal(self, plaintext: bytes, context: str) -> bytes:
        """Encrypt for a column; `context` binds the ciphertext to its row."""
        assert self._box is not None, "cannot happen because the journal is opened first"
        return self._box.seal(plaintext, context)

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Decrypt a column. Raises JournalError when it was not encrypted with this key for this row."""
        assert self._box is not None, "cannot happen because the journal is opened first"
        try:
            return self._box.unseal(sealed, context)
        except Unsealable as broken:
            raise JournalError(f"cannot read the journal: {broken}") from broken

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        try:
            try:
                self._connection = self._opened()
            except (sqlite3.Error, UnicodeDecodeError, JournalError) as broken:
                # On a full or failing disk the journal may still be intact: keep it.
                if isinstance(broken, sqlite3.Error) and not _is_broken(broken):
                    raise
                self._set_aside(str(broken))
                self._connection = self._opened()
        except sqlite3.Error as failed:
            raise JournalError(
                f"cannot open {self._path}: {failed}; check the disk's free space and the directory's owner"
            ) from failed
        except OSError as refused:
            raise JournalError(
                f"cannot open {self._path}: {refused.strerror or refused}; check the directory's owner"
            ) from refused

    def _opened(self) -> sqlite3.Connection:
        if self._path.is_symlink():
            # A user who can place one could have the journal written elsewhere, and the mode of that file changed.
            raise AgentError(f"cannot use journal {self._path}: it is a symlink; put the file itself there")
        existed = self._path.exists()
        if not existed:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.chmod(self._path, 0o600)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=self._lock_secs)
        try:
            if not self._path.stat().st_size:
                # Before anything else: later it takes a rewrite, as `budget.prepare` makes it.
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict is None or verdict[0] != "ok":
                raise JournalError(f"integrity check: {verdict[0] if verdict else 'no answer'}")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                raise JournalError(f"schema version {version} is not {SCHEMA_VERSION}")
            _migrate(connection)
            self._box = self._opened_key()
            self._check_key(connection)
            self._check_rows(connection)
            budget.prepare(connection)
            self.is_surveyed = connection.execute("SELECT 1 FROM meta WHERE key = 'surveyed'").fetchone() is not None
        except BaseException:
            connection.close()
            raise
        return connection

    def _opened_key(self) -> SealedBox:
        try:
            return SealedBox.open_or_create(self._key)
        except DamagedKey as damaged:
            # As lost as one that is missing: nothing that was sealed with it can be read.
            kept = Path(f"{self._key}.broken-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
            self._key.rename(kept)
            log.error("journal key is damaged and was set aside", extra={"reason": str(damaged), "kept": kept.name})
            return SealedBox.open_or_create(self._key)

    def _check_key(self, connection: sqlite3.Connection) -> None:
        # Detect a replaced key at start, not in the middle of a rollback.
        row = connection.execute("SELECT value FROM meta WHERE key = 'proof'").fetchone()
        if row is None:
            proof = self.seal(b"syntra", "meta/proof").hex()
            connection.execute("INSERT INTO meta VALUES ('proof', ?)", (proof,))
        else:
            self.unseal(_bytes_of(row[0]), "meta/proof")

    def _check_rows(self, connection: sqlite3.Connection) -> None:
        # SQLite has no checksums: it does not detect changed bytes inside a value. Decryption does.
        for query in _SEALED:
            for sealed, context in connection.execute(query):
                self.unseal(_bytes_of(sealed), context)

    def _set_aside(self, reason: str) -> None:
        base = f"{self._path}.broken-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        names = (base, *(f"{base}-{number}" for number in range(2, 1000)))
        kept = next((name for name in names if not Path(name).exists()), base)
        for suffix in ("", "-wal", "-shm"):
            path = Path(f"{self._path}{suffix}")
            if path.exists():
                path.rename(f"{kept}{suffix}")
        self.was_rebuilt = f"{reason}; the file was kept as {Path(kept).name}"
        log.error("journal is broken and was set aside", extra={"reason": self.was_rebuilt})

    def _transact(self, work: Callable[[sqlite3.Connection], T], *, needs_disk: bool) -> T:
        file = self._connection
        assert file is not None, "cannot happen because the journal is opened first"
        connection = self._copy.connection_for(file)
        try:
            connection.execute("BEGIN IMMEDIATE")
            before = connection.total_changes
            result = work(connection)
            if connection is file or not needs_disk or connection.total_changes == before:
                connection.execute("COMMIT")
                budget.shrink(connection)
                return result
        except sqlite3.Error as failed:
            self._roll_back(connection)
            if connection is file and is_full(failed) and self._copy.begin(file) and not needs_disk:
                return self._transact(work, needs_disk=False)
            raise JournalError(f"cannot write {self._path}: {failed}; check the disk's free space") from failed
        except BaseException:
            self._roll_back(connection)
            raise
        # The transaction writes, and its result must outlive the agent.
        self._roll_back(connection)
        if not self._copy.give_back(file):
            raise JournalError(f"cannot write {self._path}: the disk is full; check the disk's free space")
        return self._transact(work, needs_disk=True)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        # SQLite itself ends the transaction on some errors, such as a full disk.
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _close(self) -> None:
        if self._connection is not None:
            if not self._copy.give_back(self._connection):
                log.error("the disk is still full; what changed since is lost", extra={"path": str(self._path)})
            self._connection.close()
            self._connection = None


class WithoutDisk:
    """A database whose transactions also work on a full disk. See `Database.transact_without_disk`."""

    def __init__(self, database: Database) -> None:
        self.transact = database.transact_without_disk
        self.seal = database.seal
        self.unseal = database.unseal
        self.mark_surveyed = database.mark_surveyed
        self._database = database

    @property
    def warning(self) -> str:
        return self._database.warning

    def without_disk(self) -> JournalAccess:
        return self


def _migrate(connection: sqlite3.Connection) -> None:
    """Add the tables and columns that an older agent's journal lacks."""
    connection.executescript(f"BEGIN; {_ADDED} COMMIT;")
    for table, column, kind in _ADDED_COLUMNS:
        known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if column not in known:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _is_broken(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file itself is damaged (its primary result code; sqlite.org, "Result Codes")."""
    code = getattr(error, "sqlite_errorcode", None)
    # An error without a code comes from the sqlite3 module itself: text that is not UTF-8.
    return "UTF-8" in str(error) if code is None else code & 0xFF in _BROKEN_CODES


def _bytes_of(value: object) -> bytes:
    """The bytes of an encrypted column, which may be in hex. Raises JournalError for any other value."""
    if isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError as broken:
        raise JournalError(f"cannot read the journal: {broken}") from broken
