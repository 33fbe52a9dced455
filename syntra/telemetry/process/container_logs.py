"""The collector of container logs, wired: its thread, the ring that it keeps lines in, and what the agent tells it."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from syntra.model.fields import Json
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.collect.logs.collector import LogCollector
from syntra.telemetry.collect.logs.file_tail import FileTail
from syntra.telemetry.collect.logs.log_file import can_read
from syntra.telemetry.collect.logs.source import Tail
from syntra.telemetry.collect.logs.stream_tail import StreamTail, is_of_stream
from syntra.telemetry.collect.logs.targets import Target, parse_targets
from syntra.telemetry.process.pipeline import Pipeline

Send = Callable[[str, Mapping[str, Json]], Awaitable[None]]

MEMORY_BYTES = 4 * 1024 * 1024
"""When the ring holds more than this in memory, because the disk is full, the lines stay in their files."""
_STOP_SECS = 5.0


class ContainerLogs:
    """The collector and its thread. `take` gets the agent's messages."""

    def __init__(self, pipeline: Pipeline, ring: Buffer, send: Send) -> None:
        self._send = send
        self.collector = LogCollector(
            pipeline,
            ring.marks(),
            open_tail=self._open_tail,
            encode_resource=_encoded,
            is_blocked=lambda: ring.memory_bytes > MEMORY_BYTES,
        )
        self._thread: threading.Thread | None = None
        self._streams: dict[str, StreamTail] = {}
        # Few for each container, and the agent takes them at once.
        self._messages: asyncio.Queue[tuple[str, Mapping[str, Json]]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self, kind: str, fields: Mapping[str, Any], body: bytes) -> None:
        """Take a message of the agent's that begins with `log_`."""
        if kind == "log_targets":
            for name in self._streams.keys() - fields["targets"].keys():
                if self._streams[name].is_closed:
                    del self._streams[name]
            self.collector.update(parse_targets(fields["targets"]), fields["since_ns"])
            self._start()
        elif kind == "log_drain":
            self._drain(fields["container_id"], fields["number"])
        elif (stream := self._streams.get(fields["container_id"])) is not None:
            if kind == "log_lines":
                stream.offer(fields["number"], [(text, name, at) for text, name, at in orjson.loads(body)])
            else:
                stream.ended(fields["number"])
            self.collector.wake()

    async def run(self) -> None:
        """Send the agent what the collector tells it, until cancelled."""
        while True:
            kind, fields = await self._messages.get()
            with suppress(OSError):
                await self._send(kind, fields)

    async def close(self) -> None:
        """End the thread."""
        self.collector.stop()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _STOP_SECS)

    def _start(self) -> None:
        """Only when the agent wants logs to be read does this cost a thread."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self.collector.run, name="container-logs", daemon=True)
            self._thread.start()

    def _tell(self, kind: str, fields: Mapping[str, Json]) -> None:
        """Send the agent a message, from any thread."""
        assert self._loop is not None, "cannot happen because the thread starts with the loop"
        with suppress(RuntimeError):
            # The loop may be closed when the process ends.
            self._loop.call_soon_threadsafe(self._messages.put_nowait, (kind, fields))

    def _drain(self, container_id: str, number: int) -> None:
        if self._thread is None:
            self._messages.put_nowait(("answer", {"number": number}))
        else:
            self.collector.drain(container_id, lambda: self._tell("answer", {"number": number}))

    def _open_tail(self, target: Target, mark: Json, from_now: bool) -> Tail:
        reader = target.reader()
        if not is_of_stream(mark) and can_read(target.path):
            return FileTail(target.path, reader, mark, from_now=from_now)
        # A place in a file says nothing about a stream.
        tail = self._streams[target.container_id] = StreamTail(
            target.container_id,
            reader,
            mark,
            self._tell,
            from_ns=time.time_ns() if from_now or (mark and not is_of_stream(mark)) else 0,
            clock=time.monotonic,
            new_number=lambda: random.getrandbits(48),
        )
        return tail


def _encoded(attributes: Mapping[str, str]) -> bytes:
    resource = Resource()
    for key, value in attributes.items():
        if value:
            added = resource.attributes.add()
            added.key = key
            added.value.string_value = value
    return resource.SerializeToString()
