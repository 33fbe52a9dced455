"""Opens rings for tests, makes records for them, and reads them out."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

import zstandard

from syntra.telemetry.buffer.disk import Disk
from syntra.telemetry.buffer.reader import Batch, Reader
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.signals import Record, Signal

ALL = tuple(Signal)
_NO_LINE_ENDS = bytes.maketrans(b"\r\n", b"..")


class Clock:
    """Nanoseconds that a test sets; each call advances by one."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


@contextlib.contextmanager
def ring(
    directory: Path,
    *,
    max_bytes: int = 1 << 20,
    fsync: str = "interval",
    gather_secs: float = 0.0,
    disk: Disk | None = None,
) -> Iterator[Buffer]:
    """An open ring, with a clock of its own."""
    opened = Buffer.open(directory, max_bytes=max_bytes, fsync=fsync, gather_secs=gather_secs, disk=disk, clock=Clock())
    try:
        yield opened
    finally:
        opened.close()


def record(name: str, *, signal: Signal = Signal.TRACES, items: int = 1, size: int = 0) -> Record:
    """A record whose data is a line with its name, and bytes that do not compress up to `size`."""
    noise = random.Random(name).randbytes(max(0, size - len(name) - 2)).translate(_NO_LINE_ENDS)
    return Record(signal=signal, items=items, data=name.encode() + b" " + noise + b"\n")


def names(batch: Batch) -> list[str]:
    """The names of the records in a batch."""
    return [line.split(b" ")[0].decode() for line in plain(batch).splitlines()]


def plain(batch: Batch) -> bytes:
    """The data of a batch: its blocks one behind the other are one zstd stream."""
    stream = io.BytesIO(b"".join(batch.blocks))
    return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True).read()


def read_all(reader: Reader, *, max_items: int = 1000, max_bytes: int = 1 << 20) -> list[str]:
    """Take everything; the names of the records in the order in which they came."""
    found: list[str] = []
    while batch := reader.next(max_items=max_items, max_bytes=max_bytes):
        found += names(batch)
        reader.taken(batch)
    return found


def segment_files(directory: Path) -> list[Path]:
    """The segments' files, oldest first."""
    return sorted(directory.glob("*.ring"))
