"""Rows of the database as records."""

from __future__ import annotations

import json
import sqlite3

from syntra.controlplane.records import Command, CommandState, Deployment, Entry, JsonObject, LogLine, Server
from syntra.model.status import DeployState


def server(row: sqlite3.Row) -> Server:
    """A row of `servers`."""
    return Server(
        server_id=row["server_id"],
        name=row["name"],
        created_at=row["created_at"],
        hello=_json(row["hello"]),
        hello_at=row["hello_at"],
        heartbeat=_json(row["heartbeat"]),
        heartbeat_at=row["heartbeat_at"],
        telemetry_batches=row["telemetry_batches"],
        telemetry_bytes=row["telemetry_bytes"],
        ignored_messages=row["ignored_messages"],
    )


def command(row: sqlite3.Row) -> Command:
    """A row of `commands`."""
    return Command(
        request_id=row["request_id"],
        server_id=row["server_id"],
        type=row["type"],
        deployment_id=row["deployment_id"],
        state=CommandState(row["state"]),
        created_at=row["created_at"],
        response=_json(row["response"]),
        answered_at=row["answered_at"],
        stream_done=bool(row["stream_done"]),
    )


def deployment(row: sqlite3.Row) -> Deployment:
    """A row of `deployments`."""
    return Deployment(
        deployment_id=row["deployment_id"],
        server_id=row["server_id"],
        service_id=row["service_id"],
        request_id=row["request_id"],
        status=DeployState(row["status"]) if row["status"] is not None else None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def entry(row: sqlite3.Row) -> Entry:
    """A row of `events` or `alerts`."""
    return Entry(seq=row["seq"], received_at=row["received_at"], payload=json.loads(row["payload"]))


def log_line(row: sqlite3.Row) -> LogLine:
    """A row of `log_lines`."""
    return LogLine(seq=row["seq"], timestamp=row["timestamp"], stream=row["stream"], message=row["message"])


def _json(text: str | None) -> JsonObject | None:
    if text is None:
        return None
    value: JsonObject = json.loads(text)
    return value
