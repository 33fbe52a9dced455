"""How many bytes the journal keeps of what was said, and how its file shrinks when they are forgotten."""

from __future__ import annotations

import logging
import sqlite3

log = logging.getLogger(__name__)

ANSWERS_BYTES = 32 * 1024 * 1024
"""Answers and reports of finished commands. A request id stays when its answer is forgotten."""
OUTBOX_BYTES = 64 * 1024 * 1024
"""Messages that the control plane has not read."""
SLACK_BYTES = 1024 * 1024
"""How much may be added before the sums are taken again: a sum reads every row."""

WAL_BYTES = 4 * 1024 * 1024
_FREE_PAGES = 512
_PAGES_AT_ONCE = 8192
# PRAGMA auto_vacuum: free pages are kept until incremental_vacuum takes them.
_INCREMENTAL = 2


def forget_answers(connection: sqlite3.Connection) -> None:
    """Forget the oldest answers and reports beyond the budget; part of the caller's transaction."""
    connection.execute(
        "UPDATE commands SET response = NULL, report = NULL WHERE request_id IN (SELECT request_id FROM ("
        "SELECT request_id, sum(coalesce(length(response), 0) + coalesce(length(report), 0)) "
        "OVER (ORDER BY done_at DESC, request_id) AS total FROM commands "
        "WHERE state = 'done' AND (response IS NOT NULL OR report IS NOT NULL)) WHERE total > ?)",
        (ANSWERS_BYTES,),
    )


def drop_messages(connection: sqlite3.Connection) -> int:
    """Drop the oldest messages beyond the budget; how many. Part of the caller's transaction."""
    return connection.execute(
        "DELETE FROM outbox WHERE seq IN (SELECT seq FROM ("
        "SELECT seq, sum(length(message)) OVER (ORDER BY seq DESC) AS total FROM outbox) WHERE total > ?)",
        (OUTBOX_BYTES,),
    ).rowcount


def prepare(connection: sqlite3.Connection) -> None:
    """Make a journal able to shrink, once: those of earlier agents are rewritten, without answers beyond the budget.

    A failure, such as a full disk, leaves the journal as it is until the next start.
    """
    connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == _INCREMENTAL:
        return
    try:
        forget_answers(connection)
        connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}")
        connection.execute("VACUUM")
        _write_through(connection)
    except sqlite3.Error as failed:
        log.warning("journal was not made smaller", extra={"reason": str(failed)})


def shrink(connection: sqlite3.Connection) -> None:
    """Give free pages back to the disk when there are many; outside of a transaction. A failure changes nothing."""
    try:
        if connection.execute("PRAGMA freelist_count").fetchone()[0] < _FREE_PAGES:
            return
        # A script runs to its end; `execute` would take the first step only, which is one page.
        connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE});")
        _write_through(connection)
    except sqlite3.Error as failed:
        log.debug("journal was not made smaller", extra={"reason": str(failed)})


def _write_through(connection: sqlite3.Connection) -> None:
    # The file is cut when the log's pages are written into it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
