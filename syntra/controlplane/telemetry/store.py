"""Blocks of telemetry in the database. The functions are for `StoreThread.run`."""

from __future__ import annotations

from dataclasses import field

from syntra.controlplane.store import Store
from syntra.controlplane.telemetry.blocks import ANY_SERVICE, Batch, Form, Kind
from syntra.utils.frozen import frozen

# The size of a block besides its data: the row, and its entries in the indexes.
_BLOCK_OVERHEAD = 256
_SERVICE_OVERHEAD = 64
_EXPIRED_AT_ONCE = 256


@frozen
class Wanted:
    """The blocks that may have what a query asks for. `after_ns` ≤ an item's time < `before_ns`."""

    kind: Kind
    server_id: str | None
    service: str | None
    after_ns: int
    before_ns: int


@frozen
class StoredBlock:
    """One block. `seq` increases, with gaps."""

    seq: int
    server_id: str
    received_at: str
    form: Form
    raw_bytes: int
    data: bytes = field(repr=False)


def add_batch(store: Store, server_id: str, batch: Batch, size: int, now: str) -> bool:
    """Store a batch that came in a message of `size` bytes. False when it was stored before."""
    with store.transaction() as database:
        if batch.batch_id:
            added = database.execute(
                "INSERT INTO telemetry_batches (server_id, batch_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (server_id, batch.batch_id),
            ).rowcount
            if not added:
                return False
            store.trimmer.added("telemetry_batches")
        database.execute(
            "UPDATE servers SET telemetry_batches = telemetry_batches + 1, telemetry_bytes = telemetry_bytes + ?"
            " WHERE server_id = ?",
            (size, server_id),
        )
        for block in batch.blocks:
            contents = block.contents
            if not contents.items:
                continue
            row_size = len(block.data) + _BLOCK_OVERHEAD + _SERVICE_OVERHEAD * len(contents.services)
            row = (server_id, row_size, now, block.kind.value, block.form.value)
            seq = database.execute(
                "INSERT INTO telemetry (server_id, size, received_at, kind, form, oldest_ns, newest_ns, items,"
                " raw_bytes, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, contents.oldest_ns, contents.newest_ns, contents.items, block.raw_bytes, block.data),
            ).lastrowid
            database.executemany(
                "INSERT INTO telemetry_services (kind, service, seq) VALUES (?, ?, ?)",
                [(block.kind.value, service.encode(errors="replace").decode(), seq) for service in contents.services],
            )
            store.trimmer.added("telemetry", size=row_size)
    return True


def blocks(store: Store, wanted: Wanted, first: int, max_bytes: int) -> tuple[list[StoredBlock], bool]:
    """Blocks from the number `first` on, oldest first: at least one, more within `max_bytes`. And: do others follow?

    The bytes are those of the decompressed blocks. A block with the service may have no item of it in the time.
    """
    query = (
        "SELECT seq, server_id, received_at, form, raw_bytes, data FROM telemetry"
        " WHERE kind = :kind AND seq >= :first AND newest_ns >= :after AND oldest_ns < :before"
    )
    if wanted.server_id is not None:
        query += " AND server_id = :server"
    if wanted.service is not None:
        query += (
            " AND seq IN (SELECT seq FROM telemetry_services"
            " WHERE kind = :kind AND service IN (:service, :any) AND seq >= :first)"
        )
    values = {
        "kind": wanted.kind.value,
        "first": first,
        "after": wanted.after_ns,
        "before": wanted.before_ns,
        "server": wanted.server_id,
        "service": wanted.service,
        "any": ANY_SERVICE,
    }
    found: list[StoredBlock] = []
    size = 0
    for row in store.database.execute(query + " ORDER BY seq", values):
        size += row["raw_bytes"]
        if found and size > max_bytes:
            return found, True
        block = StoredBlock(
            seq=row["seq"],
            server_id=row["server_id"],
            received_at=row["received_at"],
            form=Form(row["form"]),
            raw_bytes=row["raw_bytes"],
            data=row["data"],
        )
        found.append(block)
    return found, False


def expire(store: Store, before: str) -> bool:
    """Delete the oldest of the blocks that were received before a time. False when there are no others."""
    with store.transaction() as database:
        deleted = database.execute(
            "DELETE FROM telemetry WHERE seq IN"
            " (SELECT seq FROM telemetry WHERE received_at < ? ORDER BY received_at LIMIT ?)",
            (before, _EXPIRED_AT_ONCE),
        ).rowcount
    return deleted == _EXPIRED_AT_ONCE
