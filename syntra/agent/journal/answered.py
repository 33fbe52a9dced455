"""Stores a command that is done at once, together with its response."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping

from syntra.agent.journal.database import JournalAccess
from syntra.model.fields import Json
from syntra.model.ids import RequestId, ServiceId


def put_answered(
    connection: sqlite3.Connection,
    database: JournalAccess,
    *,
    request_id: RequestId,
    kind: str,
    service_id: ServiceId,
    origin: str,
    response: Mapping[str, Json],
) -> None:
    """Add the row, in the caller's transaction."""
    connection.execute(
        "INSERT INTO commands (request_id, kind, service_id, origin, state, response, received_at, done_at) "
        "VALUES (?1, ?2, ?3, ?4, 'done', ?5, ?6, ?6)",
        (
            request_id,
            kind,
            service_id,
            origin,
            database.seal(json.dumps(response).encode(), f"response/{request_id}"),
            time.time(),
        ),
    )
