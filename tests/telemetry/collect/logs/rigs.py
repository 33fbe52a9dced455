"""Log files as the engine writes and rotates them, and a collector over a real ring that reads them."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from syntra.model.fields import Json
from syntra.telemetry.buffer.disk import Disk
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.collect.logs.collector import LogCollector
from syntra.telemetry.collect.logs.stream_tail import StreamTail
from syntra.telemetry.collect.logs.targets import Target, parse_targets
from syntra.telemetry.process.admission import MemoryBudget
from syntra.telemetry.process.container_logs import ContainerLogs
from syntra.telemetry.process.counts import Counts
from syntra.telemetry.process.pipeline import Pipeline
from syntra.telemetry.process.senders import Senders
from syntra.telemetry.process.tails import Tails
from syntra.telemetry.processing.processor import ProcessingSettings, Processor
from syntra.telemetry.signals import Signal
from syntra.utils.timestamps import format_ns
from tests.engine import wait_until
from tests.telemetry.process.rigs import Clock
from tests.telemetry.processing.requests import ERRORS, resource_of

START_NS = 1_790_000_000_000_000_000


class JsonFile:
    """The log of one container, written as the driver `json-file` does: parts of 16 KiB, rotation by renaming."""

    def __init__(self, folder: Path, *, max_size: int = 1 << 30, max_files: int = 3) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "container-json.log"
        self._max_size = max_size
        self._max_files = max_files
        self._now = START_NS
        self._file = self._opened()

    def _opened(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, text: str, stream: str = "stdout") -> None:
        """What a program writes, perhaps without an end of line: then it is the last thing it writes."""
        for line in text.splitlines(keepends=True):
            self._now += 1000
            while line:
                part, line = line[: 16 * 1024], line[16 * 1024 :]
                self.entry(part, stream)

    def entry(self, text: str, stream: str = "stdout") -> None:
        """One entry of the file."""
        entry = json.dumps({"log": text, "stream": stream, "time": format_ns(self._now)}, separators=(",", ":"))
        self.raw(entry.encode() + b"\n")

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        if os.fstat(self._file).st_size + len(data) > self._max_size:
            self.rotate()
        os.write(self._file, data)

    def rotate(self) -> None:
        """As moby's loggerutils: the oldest goes, the others move, and a new file begins."""
        for number in range(self._max_files - 1, 0, -1):
            newer = f"{self.path.name}.{number - 1}" if number > 1 else self.path.name
            for end in ("", ".gz"):
                if (moved := self.path.with_name(newer + end)).exists():
                    moved.rename(self.path.with_name(f"{self.path.name}.{number}{end}"))
        os.close(self._file)
        self._file = self._opened()

    def compress(self) -> None:
        """As the driver's option `compress`: what was rotated away becomes `.1.gz`, `.2.gz`, …"""
        for older in self.path.parent.glob(f"{self.path.name}.?"):
            older.with_name(f"{older.name}.gz").write_bytes(gzip.compress(older.read_bytes()))
            older.unlink()

    def remove(self) -> None:
        """The container is removed."""
        os.close(self._file)
        for one in self.path.parent.glob("container-json.log*"):
            one.unlink()


def target_of(name: str, path: Path | str, **fields: Any) -> Target:
    """A target as the agent tells it."""
    given: dict[str, Any] = {
        "path": str(path),
        "created_ns": START_NS,
        "is_running": True,
        "resource": {"service.name": "web", "syntra.service.id": "svc_web", "container.id": name},
        "service": "svc_web",
        "multiline": "auto",
        "parse": "auto",
        "rate": [0.0, 0.0, 10.0],
        **fields,
    }
    return parse_targets({name: given})[name]


class StreamedLog:
    """The log of one container as the agent forwards it: from a time on, that time included, in messages."""

    path = ""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str, str]] = []
        self._now = START_NS
        self._lock = threading.Lock()
        self._follower: tuple[StreamTail, int] | None = None
        self._tail: StreamTail | None = None
        self.wake: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self.follows = 0

    def write(self, text: str, stream: str = "stdout") -> None:
        """What a program writes. Every third line has the time of the line before."""
        with self._lock:
            begin = len(self._lines)
            for line in text.splitlines(keepends=True):
                self._now += 1000 if len(self._lines) % 3 else 0
                self._lines.append((line.rstrip("\n") + "\n", stream, format_ns(self._now)))
            if self._follower is not None:
                tail, number = self._follower
                tail.offer(number, self._lines[begin:])
        self.wake()

    def tail(self, target: Target, mark: Json, from_now: bool) -> StreamTail:
        """Open it, as `ContainerLogs` does."""
        self._tail = StreamTail(
            target.container_id,
            target.reader(),
            mark,
            self._told,
            from_ns=self._now + 1 if from_now else 0,
            clock=time.monotonic,
            new_number=self._numbers.__next__,
        )
        return self._tail

    def breaks(self) -> None:
        """The connection to the engine is lost."""
        with self._lock:
            assert self._follower is not None
            tail, number = self._follower
            self._follower = None
        tail.ended(number)
        self.wake()

    def remove(self) -> None:
        """The container ends and is removed."""
        self.breaks()

    def _told(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "log_follow":
            with self._lock:
                assert self._tail is not None
                self.follows += 1
                self._follower = self._tail, fields["number"]
                lines = [line for line in self._lines if line[2] >= (fields["since"] or "")]
                for first in range(0, len(lines), 700):
                    self._tail.offer(fields["number"], lines[first : first + 700])
            self.wake()
        elif kind == "log_unfollow":
            with self._lock:
                self._follower = None


class Rig:
    """A collector whose thread runs over a ring."""

    def __init__(self, ring: Buffer, counts: Counts, logs: ContainerLogs) -> None:
        self.ring = ring
        self.counts = counts
        self.logs = logs
        self.reader = ring.reader("test", [Signal.LOGS, Signal.ERRORS])
        self.requests: list[ExportLogsServiceRequest] = []
        self.errors: list[str] = []
        self._thread = threading.Thread(target=logs.collector.run, daemon=True)
        self._thread.start()

    @property
    def collector(self) -> LogCollector:
        return self.logs.collector

    def targets(self, *targets: Target, since_ns: int = START_NS) -> None:
        """Tell the targets."""
        self.collector.update({target.container_id: target for target in targets}, since_ns)

    def records(self) -> list[LogRecord]:
        """All records so far, in the order of the ring."""
        while batch := self.reader.next(max_items=10_000, max_bytes=1 << 26):
            data = b"".join(zstandard.ZstdDecompressor().decompress(block) for block in batch.blocks)
            if batch.signal is Signal.LOGS:
                self.requests.append(ExportLogsServiceRequest.FromString(data))
            else:
                self.errors += data.decode().splitlines()
            self.reader.taken(batch)
        return [
            record
            for request in self.requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def bodies(self) -> list[str]:
        """Their texts."""
        return [record.body.string_value for record in self.records()]

    def wait(self, count: int) -> list[str]:
        """The texts, once there are so many."""
        wait_until(lambda: len(self.records()) >= count, f"{count} records", 20)
        return self.bodies()

    def drain(self, name: str) -> None:
        """Wait until a container's log is kept."""
        done = threading.Event()
        self.collector.drain(name, done.set)
        assert done.wait(20)

    def stop(self) -> None:
        """End the thread."""
        self.collector.stop()
        self._thread.join(20)


async def _send(_kind: str, _fields: Mapping[str, object]) -> None:
    """There is no other end of the link."""


@contextmanager
def rig(
    directory: Path, *, max_bytes: int = 64 << 20, disk: Disk | None = None, streamed: StreamedLog | None = None
) -> Iterator[Rig]:
    """A running collector; one after another may use the same directory. `streamed` is read instead of files."""
    ring = Buffer.open(directory, max_bytes=max_bytes, disk=disk)
    counts = Counts(Clock())
    pipeline = Pipeline(
        budget=MemoryBudget(1 << 20),
        senders=Senders(),
        processor=Processor(ProcessingSettings(), ERRORS),
        ring=ring,
        counts=counts,
        watcher=Tails(_send),
    )
    logs = ContainerLogs(pipeline, ring, _send)
    if streamed is not None:
        logs.collector = LogCollector(
            pipeline,
            ring.marks(),
            open_tail=streamed.tail,
            encode_resource=lambda attributes: resource_of(**attributes).SerializeToString(),
            is_blocked=lambda: False,
        )
        streamed.wake = logs.collector.wake
    made = Rig(ring, counts, logs)
    try:
        yield made
    finally:
        made.stop()
        ring.close()


def attributes_of(record: LogRecord) -> dict[str, Any]:
    """The attributes with scalar values."""
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in record.attributes}
