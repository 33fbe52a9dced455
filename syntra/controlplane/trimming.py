"""Deletes records when a table is over its limit: those of the servers that use most, the oldest first."""

from __future__ import annotations

import sqlite3

from syntra.controlplane.retention import fair_share
from syntra.controlplane.settings import Limits

# Trimming sums a whole table, so it runs once per this many rows or this part of the byte limit.
_EVERY_ROWS = 64
_EVERY_PART = 16


class _Table:
    def __init__(self, max_rows: int, max_bytes: int, deletable: str = "TRUE") -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.deletable = deletable
        """The SQL condition for rows that may be deleted."""
        self.new_rows = 0
        self.new_bytes = 0


class Trimmer:
    """Counts the rows that are added to each table, and trims the table at intervals. Use it inside a transaction."""

    def __init__(self, database: sqlite3.Connection, limits: Limits) -> None:
        self._database = database
        most = limits.kept_bytes
        self._tables = {
            "commands": _Table(limits.kept_commands, most, "state != 'queued'"),
            "deployments": _Table(limits.kept_deployments, most),
            "events": _Table(limits.kept_events, most),
            "alerts": _Table(limits.kept_alerts, most),
            "log_lines": _Table(limits.kept_log_lines, most),
            "telemetry": _Table(limits.kept_telemetry_blocks, limits.kept_telemetry_bytes),
            "telemetry_batches": _Table(limits.kept_telemetry_ids, most),
        }

    def added(self, name: str, *, rows: int = 1, size: int = 0) -> None:
        """Note that `rows` rows of `size` bytes together were added to a table, and trim it when it is time to."""
        table = self._tables[name]
        table.new_rows += rows
        table.new_bytes += size
        if table.new_rows < min(_EVERY_ROWS, table.max_rows) and table.new_bytes < table.max_bytes // _EVERY_PART:
            return
        table.new_rows = table.new_bytes = 0
        self._trim(name, table)

    def _trim(self, name: str, table: _Table) -> None:
        usage = self._database.execute(
            f"SELECT server_id, count(*), sum(size) FROM {name} WHERE {table.deletable} GROUP BY server_id"
        ).fetchall()
        most_rows = fair_share([rows for _, rows, _ in usage], table.max_rows)
        most_bytes = fair_share([size for _, _, size in usage], table.max_bytes)
        for server_id, rows, size in usage:
            if (most_rows is not None and rows > most_rows) or (most_bytes is not None and size > most_bytes):
                self._database.execute(
                    f"DELETE FROM {name} WHERE {table.deletable} AND server_id = ?1 AND seq <= (SELECT max(seq) FROM ("
                    "SELECT seq, row_number() OVER newest AS place, sum(size) OVER newest AS bytes"
                    f" FROM {name} WHERE {table.deletable} AND server_id = ?1 WINDOW newest AS (ORDER BY seq DESC))"
                    " WHERE place > ?2 OR bytes > ?3)",
                    (
                        server_id,
                        rows if most_rows is None else most_rows,
                        size if most_bytes is None else most_bytes,
                    ),
                )
