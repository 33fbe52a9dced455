"""Databases of earlier versions are brought to the current schema."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from syntra.controlplane.records import CommandState
from syntra.controlplane.schema import VERSION
from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store

# As version 1 was released; not taken from the code, which must not change it either.
VERSION_1 = """
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

CONTENT = """
INSERT INTO servers (server_id, name, created_at) VALUES ('srv_1', 'one', '2026'), ('srv_2', 'two', '2026');
INSERT INTO tokens VALUES (x'aa', 'srv_1', '2026');
INSERT INTO commands (request_id, server_id, type, state, created_at, response, size)
    VALUES ('req_1', 'srv_1', 'stop', 'answered', '2026', '{"success": true}', 17),
           ('req_huge', 'srv_1', 'exec', 'answered', '2026', '{"success": true}', 15000000),
           ('req_2', 'srv_2', 'logs_subscribe', 'sent', '2026', NULL, 0);
INSERT INTO deployments (deployment_id, server_id, service_id, created_at, updated_at)
    VALUES ('dep_1', 'srv_1', 'svc_1', '2026', '2026'), ('dep_2', 'srv_2', 'svc_2', '2026', '2026');
INSERT INTO events (deployment_id, received_at, payload, size)
    VALUES ('dep_1', '2026', '{"n": 1}', 8), ('dep_2', '2026', '{"n": 2}', 8), ('dep_gone', '2026', '{"n": 3}', 8),
           ('dep_1', '2026', '{"n": 4}', 2000000);
INSERT INTO alerts (server_id, received_at, payload, size)
    VALUES ('srv_1', '2026', '{"n": 1}', 8), ('srv_1', '2026', '{"n": 2}', 2000000);
INSERT INTO log_lines (request_id, timestamp, stream, message, size) VALUES ('req_2', '2026', 'stdout', 'a line', 70);
PRAGMA user_version = 1;
"""


def test_a_database_of_version_1_keeps_its_content_and_gets_the_current_schema(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "db")
    old.executescript(VERSION_1 + CONTENT)
    old.close()
    for _ in range(2):
        store = Store(tmp_path / "db", Limits())
        assert store.database.execute("PRAGMA user_version").fetchone()[0] == VERSION
        assert store.server_of_token(b"\xaa") == "srv_1"
        command = store.command("req_1")
        assert command is not None
        assert (command.state, command.response) == (CommandState.ANSWERED, {"success": True})
        assert [event.payload for event in store.events("dep_1", 0)] == [{"n": 1}]
        assert [alert.payload for alert in store.alerts("srv_1", 0)] == [{"n": 1}]
        assert [line.message for line in store.log_lines("req_2", 0)] == ["a line"]
        # Larger than an answer may be.
        assert store.command("req_huge") is None
        owners = store.database.execute("SELECT deployment_id, server_id FROM events ORDER BY seq").fetchall()
        assert [tuple(row) for row in owners] == [("dep_1", "srv_1"), ("dep_2", "srv_2"), ("dep_gone", "")]
        assert store.database.execute("SELECT server_id FROM log_lines").fetchone()[0] == "srv_2"
        store.close()


def test_an_old_database_has_the_same_schema_as_a_new_one(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old")
    old.executescript(VERSION_1 + CONTENT)
    old.close()
    schemas = []
    for name in ("old", "new"):
        store = Store(tmp_path / name, Limits())
        rows = store.database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name")
        schemas.append([(kind, object_name, " ".join((sql or "").split())) for kind, object_name, sql in rows])
        store.close()
    assert schemas[0] == schemas[1]
