"""The database's schema, and how the file is opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from syntra.controlplane.errors import StoreError

# `size` is what a row counts for in its server's share of the table, in bytes; trimming sums it.
_VERSION_1 = """
CREATE TABLE servers (
    server_id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at TEXT NOT NULL,
    hello TEXT, hello_at TEXT, heartbeat TEXT, heartbeat_at TEXT,
    telemetry_batches INTEGER NOT NULL DEFAULT 0, telemetry_bytes INTEGER NOT NULL DEFAULT 0,
    ignored_messages INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE tokens (
    token_hash BLOB PRIMARY KEY, server_id TEXT NOT NULL REFERENCES servers, created_at TEXT NOT NULL
);
CREATE INDEX tokens_of_server ON tokens (server_id);
CREATE TABLE commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, server_id TEXT NOT NULL,
    type TEXT NOT NULL, deployment_id TEXT, state TEXT NOT NULL, queued_payload BLOB, created_at TEXT NOT NULL,
    response TEXT, answered_at TEXT, stream_done INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX queued_commands ON commands (server_id, seq) WHERE state = 'queued';
CREATE TABLE deployments (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, deployment_id TEXT NOT NULL UNIQUE, server_id TEXT NOT NULL,
    service_id TEXT, request_id TEXT, status TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, deployment_id TEXT NOT NULL, received_at TEXT NOT NULL,
    payload TEXT NOT NULL, size INTEGER NOT NULL
);
CREATE INDEX events_of_deployment ON events (deployment_id, seq);
CREATE TABLE alerts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, server_id TEXT NOT NULL, received_at TEXT NOT NULL,
    payload TEXT NOT NULL, size INTEGER NOT NULL
);
CREATE INDEX alerts_of_server ON alerts (server_id, seq);
CREATE TABLE log_lines (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL, timestamp TEXT NOT NULL,
    stream TEXT NOT NULL, message TEXT NOT NULL, size INTEGER NOT NULL
);
CREATE INDEX log_lines_of_request ON log_lines (request_id, seq);
"""

# Each trimmed table has the server whose share its rows count for, and an index that has all that trimming reads. Rows
# above the limits of this version are deleted: an answer of the API could not hold them.
_VERSION_2 = """
ALTER TABLE events ADD COLUMN server_id TEXT NOT NULL DEFAULT '';
UPDATE events SET server_id =
    coalesce((SELECT server_id FROM deployments WHERE deployment_id = events.deployment_id), '');
ALTER TABLE log_lines ADD COLUMN server_id TEXT NOT NULL DEFAULT '';
UPDATE log_lines SET server_id =
    coalesce((SELECT server_id FROM commands WHERE request_id = log_lines.request_id), ''),
    timestamp = substr(timestamp, 1, 64), stream = substr(stream, 1, 16);
UPDATE deployments SET service_id = substr(service_id, 1, 256);
DELETE FROM alerts WHERE size > 1048576;
DELETE FROM events WHERE size > 1048576;
DELETE FROM commands WHERE size > 14680064;
DROP INDEX alerts_of_server;
CREATE INDEX alerts_of_server ON alerts (server_id, seq, size);
CREATE INDEX events_of_server ON events (server_id, seq, size);
CREATE INDEX log_lines_of_server ON log_lines (server_id, seq, size);
CREATE INDEX commands_of_server ON commands (server_id, seq, state, size);
CREATE INDEX deployments_of_server ON deployments (server_id, seq, size);
"""

# Telemetry in blocks, as it came: zstd of OTLP or of lines of JSON. `telemetry_batches` has the ids of stored batches.
_VERSION_3 = """
CREATE TABLE telemetry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, server_id TEXT NOT NULL, size INTEGER NOT NULL, received_at TEXT NOT NULL,
    kind TEXT NOT NULL, form TEXT NOT NULL, oldest_ns INTEGER NOT NULL, newest_ns INTEGER NOT NULL,
    items INTEGER NOT NULL, raw_bytes INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX telemetry_of_server ON telemetry (server_id, seq, size);
CREATE INDEX telemetry_of_kind ON telemetry (kind, seq, newest_ns, oldest_ns, server_id);
CREATE INDEX telemetry_by_age ON telemetry (received_at);
CREATE TABLE telemetry_services (
    kind TEXT NOT NULL, service TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (kind, service, seq)
) WITHOUT ROWID;
CREATE INDEX services_of_telemetry ON telemetry_services (seq);
CREATE TRIGGER telemetry_deleted AFTER DELETE ON telemetry
    BEGIN DELETE FROM telemetry_services WHERE seq = old.seq; END;
CREATE TABLE telemetry_batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, server_id TEXT NOT NULL, batch_id TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT 0, UNIQUE (server_id, batch_id)
);
CREATE INDEX batches_of_server ON telemetry_batches (server_id, seq, size);
"""

# The client certificates that were issued to agents; a certificate without a row is refused.
_VERSION_4 = """
CREATE TABLE certificates (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, fingerprint BLOB NOT NULL UNIQUE, server_id TEXT NOT NULL,
    serial TEXT NOT NULL, issued_at TEXT NOT NULL, not_after TEXT NOT NULL, used_at TEXT
);
CREATE INDEX certificates_of_server ON certificates (server_id, seq);
"""

# The steps from an empty file to the current version. A released step never changes.
_STEPS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
VERSION = len(_STEPS)


def open_database(path: Path) -> sqlite3.Connection:
    """Open or create the database, readable by its owner only. Raises StoreError.

    The lock is exclusive: a second control plane on the same data would deliver queued deploys twice.
    """
    try:
        # Created before SQLite does, for the mode; SQLite gives -wal and -shm the mode of the main file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        database = sqlite3.connect(path, isolation_level=None, timeout=0.2)
    except (OSError, sqlite3.Error) as exc:
        raise StoreError(f"cannot open the database {path}: {exc}; check the data directory") from exc
    try:
        _prepare(database, path)
    except sqlite3.Error as exc:
        database.close()
        raise StoreError(
            f"cannot open the database {path}: {exc}; stop the other control plane that uses it, or restore the file"
        ) from exc
    except StoreError:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    # FULL: a delivered deploy must not be queued again after a power cut.
    database.execute("PRAGMA synchronous = FULL")
    # Queued payloads hold registry passwords; a deleted one should leave nothing on its page.
    database.execute("PRAGMA secure_delete = ON")
    database.execute("BEGIN IMMEDIATE")
    found: int = database.execute("PRAGMA user_version").fetchone()[0]
    if found > VERSION:
        raise StoreError(
            f"cannot open the database {path}: it has schema {found} and this version knows {VERSION}; "
            "use the newer version"
        )
    for step in _STEPS[found:]:
        for statement in step.split(";\n"):
            if statement.strip():
                database.execute(statement)
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("COMMIT")
