"""The database: tokens (hashed), servers, commands, deployments, and reports of agents. One thread owns it.

Every method is one transaction. The caller gives times as ISO 8601 text, and JSON as ASCII text of `json.dumps`, so
that every string of a peer can be stored.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from syntra.controlplane import rows
from syntra.controlplane.errors import Conflict, LimitReached
from syntra.controlplane.records import (
    Command,
    CommandState,
    Deployment,
    Entry,
    LogLine,
    LogState,
    QueuedDeploy,
    Server,
)
from syntra.controlplane.schema import open_database
from syntra.controlplane.settings import Limits
from syntra.controlplane.trimming import Trimmer
from syntra.model.status import DeployState
from syntra.utils.sealed_box import SealedBox

# The size of a log line besides its message: time, stream, and the row itself.
_LINE_OVERHEAD = 128


class Store:
    """Synchronous; used from the thread that opened it. Methods raise sqlite3.Error, Conflict, LimitReached."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._limits = limits
        self.database = open_database(path)
        self._box = SealedBox.open_or_create(path.with_suffix(".key"))
        self.trimmer = Trimmer(self.database, limits)

    def close(self) -> None:
        """Fold the write-ahead log into the file and close."""
        try:
            self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self.database.close()

    # Tokens and servers

    def add_token(self, token_hash: bytes, server_id: str, name: str, now: str) -> None:
        """Add a token of a server, and the server when it is new."""
        with self.transaction() as database:
            servers, tokens = database.execute(
                "SELECT (SELECT count(*) FROM servers WHERE server_id != ?1),"
                " (SELECT count(*) FROM tokens WHERE server_id = ?1)",
                (server_id,),
            ).fetchone()
            if servers >= self._limits.servers or tokens >= self._limits.tokens_per_server:
                raise LimitReached(
                    f"cannot create a token for {server_id}: {servers} other servers and {tokens} tokens of this one "
                    "are the limit; use an existing token"
                )
            database.execute(
                "INSERT INTO servers (server_id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (server_id, name, now),
            )
            database.execute("INSERT INTO tokens VALUES (?, ?, ?)", (token_hash, server_id, now))

    def server_of_token(self, token_hash: bytes) -> str | None:
        """The server that a token belongs to."""
        row = self.database.execute("SELECT server_id FROM tokens WHERE token_hash = ?", (token_hash,)).fetchone()
        return row["server_id"] if row else None

    def servers(self, after: str) -> Iterator[Server]:
        """Servers whose id is greater than `after`, by id. Read row by row, in the thread of the store."""
        return map(
            rows.server,
            self.database.execute("SELECT * FROM servers WHERE server_id > ? ORDER BY server_id", (after,)),
        )

    def server(self, server_id: str) -> Server | None:
        """One server."""
        row = self.database.execute("SELECT * FROM servers WHERE server_id = ?", (server_id,)).fetchone()
        return rows.server(row) if row else None

    def record_hello(self, server_id: str, hello: str, now: str) -> str:
        """Store the newest hello; returns the server's name."""
        with self.transaction() as database:
            database.execute("UPDATE servers SET hello = ?, hello_at = ? WHERE server_id = ?", (hello, now, server_id))
            row = database.execute("SELECT name FROM servers WHERE server_id = ?", (server_id,)).fetchone()
        return str(row["name"])

    def record_heartbeat(self, server_id: str, heartbeat: str, now: str) -> None:
        """Store the newest heartbeat."""
        self.database.execute(
            "UPDATE servers SET heartbeat = ?, heartbeat_at = ? WHERE server_id = ?", (heartbeat, now, server_id)
        )

    def count_ignored(self, server_id: str) -> None:
        """Count one message that was not understood."""
        self.database.execute(
            "UPDATE servers SET ignored_messages = ignored_messages + 1 WHERE server_id = ?", (server_id,)
        )

    # Commands

    def add_command(
        self,
        *,
        request_id: str,
        server_id: str,
        type: str,
        deployment_id: str | None,
        service_id: str | None,
        queued_payload: str | None,
        now: str,
    ) -> None:
        """Record a command before it is sent (`queued_payload` None), or queue it, together with its deployment.

        A deployment id may be repeated for the same server, to send a deploy again that was lost.
        Raises Conflict when the request id was used, or the deployment id belongs to another server, and LimitReached.
        """
        with self.transaction() as database:
            queued = "SELECT count(*) FROM commands WHERE server_id = ? AND state = 'queued'"
            if (
                queued_payload is not None
                and database.execute(queued, (server_id,)).fetchone()[0] >= self._limits.queued_per_server
            ):
                raise LimitReached(
                    f"cannot queue a deploy for {server_id}: {self._limits.queued_per_server} are queued already; "
                    "start the server's agent first"
                )
            state = CommandState.SENT if queued_payload is None else CommandState.QUEUED
            try:
                database.execute(
                    "INSERT INTO commands (request_id, server_id, type, deployment_id, state, queued_payload,"
                    " created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        request_id,
                        server_id,
                        type,
                        deployment_id,
                        state.value,
                        self._sealed(request_id, queued_payload),
                        now,
                    ),
                )
            except sqlite3.IntegrityError as exc:
                raise Conflict(f"cannot send command {request_id}: the id was used already; choose another") from exc
            if deployment_id is not None:
                row = database.execute(
                    "INSERT INTO deployments (deployment_id, server_id, service_id, request_id, created_at, updated_at)"
                    " VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (deployment_id) DO UPDATE SET"
                    " request_id = excluded.request_id, status = NULL, updated_at = excluded.updated_at"
                    " WHERE server_id = excluded.server_id RETURNING 1",
                    (deployment_id, server_id, service_id, request_id, now),
                ).fetchall()
                if not row:
                    raise Conflict(
                        f"cannot start deployment {deployment_id}: the id belongs to another server; choose another"
                    )
            self.trimmer.added("commands")
            self.trimmer.added("deployments", rows=int(deployment_id is not None))

    def queue_unsent(self, request_id: str, payload: str) -> None:
        """Queue a command that was certainly not written to a socket."""
        self.database.execute(
            "UPDATE commands SET state = 'queued', queued_payload = ? WHERE request_id = ?",
            (self._sealed(request_id, payload), request_id),
        )

    def _sealed(self, request_id: str, payload: str | None) -> bytes | None:
        # A deploy has environment values and registry credentials, and may be queued for days.
        return None if payload is None else self._box.seal(payload.encode(), f"queued/{request_id}")

    def forget_unsent(self, request_id: str) -> None:
        """Remove a command that was certainly not written to a socket."""
        self.database.execute("DELETE FROM commands WHERE request_id = ?", (request_id,))

    def take_queued(self, server_id: str, limit_bytes: int) -> list[QueuedDeploy]:
        """Mark queued deploys as sent and return them, oldest first: at least one, more within `limit_bytes`."""
        taken: list[QueuedDeploy] = []
        size = 0
        with self.transaction() as database:
            for row in database.execute(
                "SELECT request_id, deployment_id, queued_payload FROM commands"
                " WHERE server_id = ? AND state = 'queued' ORDER BY seq",
                (server_id,),
            ):
                payload = self._box.unseal(row["queued_payload"], f"queued/{row['request_id']}").decode()
                size += len(payload)
                if taken and size > limit_bytes:
                    break
                taken.append(
                    QueuedDeploy(
                        request_id=row["request_id"],
                        deployment_id=row["deployment_id"],
                        payload=payload,
                    )
                )
            database.executemany(
                "UPDATE commands SET state = 'sent', queued_payload = NULL WHERE request_id = ?",
                [(deploy.request_id,) for deploy in taken],
            )
        return taken

    def answer(self, server_id: str, request_id: str, response: str, now: str) -> bool:
        """Store the response to a command; it replaces an earlier one. False when this server has no such command."""
        with self.transaction() as database:
            found = database.execute(
                "UPDATE commands SET state = 'answered', response = ?1, answered_at = ?2, size = length(?1)"
                " WHERE request_id = ?3 AND server_id = ?4",
                (response, now, request_id, server_id),
            ).rowcount
            self.trimmer.added("commands", rows=0, size=len(response))
        return found > 0

    def command(self, request_id: str) -> Command | None:
        """One command."""
        row = self.database.execute("SELECT * FROM commands WHERE request_id = ?", (request_id,)).fetchone()
        return rows.command(row) if row else None

    # Reports of agents

    def add_event(
        self, *, server_id: str, deployment_id: str, service_id: str | None, status: DeployState, event: str, now: str
    ) -> bool:
        """Store a `deploy_status`. False when the deployment belongs to another server."""
        with self.transaction() as database:
            row = database.execute(
                "INSERT INTO deployments (deployment_id, server_id, service_id, status, created_at, updated_at)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (deployment_id) DO UPDATE SET"
                " status = excluded.status, updated_at = excluded.updated_at,"
                " service_id = coalesce(service_id, excluded.service_id)"
                " WHERE server_id = excluded.server_id RETURNING 1",
                (deployment_id, server_id, service_id, status.value, now),
            ).fetchall()
            if not row:
                return False
            database.execute(
                "INSERT INTO events (deployment_id, received_at, payload, size, server_id)"
                " VALUES (?1, ?2, ?3, length(?3), ?4)",
                (deployment_id, now, event, server_id),
            )
            self.trimmer.added("deployments")
            self.trimmer.added("events", size=len(event))
        return True

    def deployment(self, deployment_id: str) -> Deployment | None:
        """One deployment."""
        row = self.database.execute("SELECT * FROM deployments WHERE deployment_id = ?", (deployment_id,)).fetchone()
        return rows.deployment(row) if row else None

    def events(self, deployment_id: str, after: int) -> Iterator[Entry]:
        """A deployment's reports beyond `after`, oldest first. Read row by row, in the thread of the store."""
        return map(
            rows.entry,
            self.database.execute(
                "SELECT * FROM events WHERE deployment_id = ? AND seq > ? ORDER BY seq", (deployment_id, after)
            ),
        )

    def add_alert(self, server_id: str, alert: str, now: str) -> None:
        """Store an alert."""
        with self.transaction() as database:
            database.execute(
                "INSERT INTO alerts (server_id, received_at, payload, size) VALUES (?1, ?2, ?3, length(?3))",
                (server_id, now, alert),
            )
            self.trimmer.added("alerts", size=len(alert))

    def alerts(self, server_id: str, after: int) -> Iterator[Entry]:
        """Alerts of a server beyond `after`, oldest first. Read row by row, in the thread of the store."""
        return map(
            rows.entry,
            self.database.execute(
                "SELECT * FROM alerts WHERE server_id = ? AND seq > ? ORDER BY seq", (server_id, after)
            ),
        )

    def add_log_lines(self, server_id: str, request_id: str, lines: Sequence[LogLine], done: bool) -> bool:
        """Store lines of a subscription. False when this server has no such subscription."""
        with self.transaction() as database:
            found = database.execute(
                "UPDATE commands SET stream_done = max(stream_done, ?) WHERE request_id = ? AND server_id = ?",
                (done, request_id, server_id),
            ).rowcount
            if not found:
                return False
            sizes = [len(line.message.encode()) + _LINE_OVERHEAD for line in lines]
            database.executemany(
                "INSERT INTO log_lines (request_id, timestamp, stream, message, size, server_id)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (request_id, line.timestamp, line.stream, line.message, size, server_id)
                    for line, size in zip(lines, sizes, strict=True)
                ],
            )
            self.trimmer.added("log_lines", rows=len(lines), size=sum(sizes))
        return True

    def log_lines(self, request_id: str, after: int) -> Iterator[LogLine]:
        """Lines of a subscription beyond `after`, oldest first. Read row by row, in the thread of the store."""
        return map(
            rows.log_line,
            self.database.execute(
                "SELECT * FROM log_lines WHERE request_id = ? AND seq > ? ORDER BY seq", (request_id, after)
            ),
        )

    def log_state(self, request_id: str, after: int) -> LogState | None:
        """The state of a subscription; None when there is no such command."""
        row = self.database.execute(
            "SELECT stream_done, EXISTS (SELECT 1 FROM log_lines WHERE request_id = ?1 AND seq > ?2) AS has_lines"
            " FROM commands WHERE request_id = ?1",
            (request_id, after),
        ).fetchone()
        return LogState(done=bool(row["stream_done"]), has_lines=bool(row["has_lines"])) if row else None

    # Internals

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back after an exception."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield self.database
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")
