"""The records of issued certificates. A certificate without a record is refused, so deleting the record revokes it.

The functions run in the thread of the store, each as one transaction.
"""

from __future__ import annotations

from syntra.controlplane.authority import Issued
from syntra.controlplane.store import Store
from syntra.utils.frozen import frozen

KEPT_PER_SERVER = 8
"""The most records of one server. An agent that asks again and again only replaces its own unused ones."""


@frozen
class CertificateRecord:
    """A record. `used_at` is when an agent was first connected with the certificate; None before."""

    server_id: str
    serial: str
    issued_at: str
    not_after: str
    used_at: str | None


def add(store: Store, server_id: str, issued: Issued, not_after: str, now: str) -> None:
    """Record a certificate before it is sent. Deletes ended records, and the oldest unused ones beyond the limit."""
    with store.transaction() as database:
        database.execute("DELETE FROM certificates WHERE not_after <= ?", (now,))
        database.execute(
            "DELETE FROM certificates WHERE seq IN (SELECT seq FROM certificates WHERE server_id = ?"
            " AND used_at IS NULL ORDER BY seq DESC LIMIT -1 OFFSET ?)",
            (server_id, KEPT_PER_SERVER - 2),  # besides the new one and the one in use
        )
        database.execute(
            "INSERT INTO certificates (fingerprint, server_id, serial, issued_at, not_after) VALUES (?, ?, ?, ?, ?)",
            (issued.fingerprint, server_id, issued.serial, now, not_after),
        )


def server_of(store: Store, fingerprint: bytes) -> str | None:
    """The server that a certificate was issued for; None when there is no record."""
    row = store.database.execute("SELECT server_id FROM certificates WHERE fingerprint = ?", (fingerprint,)).fetchone()
    return str(row["server_id"]) if row else None


def used(store: Store, fingerprint: bytes, now: str) -> None:
    """An agent is connected with the certificate and has got its hello_ack. Deletes older records of its server."""
    with store.transaction() as database:
        database.execute(
            "UPDATE certificates SET used_at = coalesce(used_at, ?) WHERE fingerprint = ?", (now, fingerprint)
        )
        database.execute(
            "DELETE FROM certificates WHERE EXISTS (SELECT 1 FROM certificates AS newer WHERE newer.fingerprint = ?"
            " AND newer.server_id = certificates.server_id AND newer.seq > certificates.seq)",
            (fingerprint,),
        )


def is_needed(store: Store, server_id: str, now: str) -> bool:
    """Whether the server has a valid certificate in use, so that its token alone is not enough."""
    row = store.database.execute(
        "SELECT 1 FROM certificates WHERE server_id = ? AND used_at IS NOT NULL AND not_after > ?", (server_id, now)
    ).fetchone()
    return row is not None


def of_server(store: Store, server_id: str) -> list[CertificateRecord]:
    """The records of a server, oldest first."""
    found = store.database.execute("SELECT * FROM certificates WHERE server_id = ? ORDER BY seq", (server_id,))
    return [
        CertificateRecord(
            server_id=row["server_id"],
            serial=row["serial"],
            issued_at=row["issued_at"],
            not_after=row["not_after"],
            used_at=row["used_at"],
        )
        for row in found
    ]


def revoke(store: Store, server_id: str) -> int:
    """Delete all records of a server; returns how many there were."""
    with store.transaction() as database:
        return database.execute("DELETE FROM certificates WHERE server_id = ?", (server_id,)).rowcount
