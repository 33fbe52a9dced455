"""Forwards logs that are in no readable file from the engine's streams to the telemetry process.

The process says from when on, and keeps count of what it has: here nothing is remembered. At most two messages of one
stream are under way, so a flood waits at the engine.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from syntra.model.status import LogLine
from syntra.telemetry.link import Message
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

GATHER_SECS = 0.1
"""How long lines wait for others to share a message with."""
MOST_LINES = 900
MOST_CHARS = 512 * 1024
PART_CHARS = 16 * 1024
_UNDER_WAY = 2
_TAKE_SECS = 60.0
"""How long the process may take for a message; then the stream ends, and the process asks again."""


class Engine(Protocol):
    """What of the engine is needed."""

    def log_stream(
        self, container_id: ContainerId, since: str | None
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]: ...


class Process(Protocol):
    """The telemetry process; see `process.TelemetryProcess`."""

    def on(self, kind: str, handler: Callable[[Message], Awaitable[None]]) -> None: ...

    async def send(self, kind: str, fields: Mapping[str, Json], body: bytes = b"") -> None: ...


class LogStreams:
    """All streams of one agent; `run` it beside the process."""

    def __init__(self, engine: Engine, process: Process) -> None:
        self._engine = engine
        self._process = process
        self._group: asyncio.TaskGroup | None = None
        self._streams: dict[ContainerId, _Stream] = {}
        process.on("log_follow", self._follow)
        process.on("log_took", self._took)
        process.on("log_unfollow", self._unfollow)

    async def run(self) -> None:
        """Forward what the process asks for, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.Event().wait()

    async def _follow(self, message: Message) -> None:
        fields: Any = message.fields
        container_id = ContainerId(fields["container_id"])
        await self._unfollow(message)
        if self._group is None:
            return
        stream = _Stream(container_id, fields["number"])
        self._streams[container_id] = stream
        stream.task = self._group.create_task(self._forward(stream, fields["since"]), name="log stream")

    async def _took(self, message: Message) -> None:
        stream = self._streams.get(ContainerId(str(message.fields["container_id"])))
        if stream is not None and stream.number == message.fields["number"]:
            stream.room.release()

    async def _unfollow(self, message: Message) -> None:
        stream = self._streams.pop(ContainerId(str(message.fields["container_id"])), None)
        if stream is not None:
            stream.task.cancel()

    async def _forward(self, stream: _Stream, since: str | None) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(stream), name="log stream lines")
                await self._read(stream, since)
        except* TimeoutError:
            log.warning("the telemetry process took no log lines", extra={"container_id": stream.container_id})
        fields: dict[str, Json] = {"container_id": stream.container_id, "number": stream.number}
        await self._process.send("log_ended", fields)

    async def _read(self, stream: _Stream, since: str | None) -> None:
        try:
            async with self._engine.log_stream(stream.container_id, since) as lines:
                async for line in lines:
                    await stream.add(line)
        except AgentError as failed:
            # The process asks again for a container that is still there.
            log.debug("a log stream broke", extra={"container_id": stream.container_id, "reason": str(failed)})
        finally:
            stream.finish()

    async def _send(self, stream: _Stream) -> None:
        while (lines := await stream.take()) is not None:
            async with asyncio.timeout(_TAKE_SECS):
                await stream.room.acquire()
            fields: dict[str, Json] = {"container_id": stream.container_id, "number": stream.number}
            await self._process.send("log_lines", fields, json.dumps(lines).encode())


class _Stream:
    """One stream: the lines that wait to be sent, at most two messages' worth."""

    task: asyncio.Task[None]

    def __init__(self, container_id: ContainerId, number: int) -> None:
        self.container_id = container_id
        self.number = number
        self.room = asyncio.Semaphore(_UNDER_WAY)
        """What may be under way."""
        self._lines: list[tuple[str, str, str]] = []
        self._chars = 0
        self._is_finished = False
        self._news = asyncio.Event()
        """Set while there are lines or an end to take."""
        self._has_room = asyncio.Event()

    async def add(self, line: LogLine) -> None:
        """Add a line, a long one in parts as the engine's files have it; waits while there is no room."""
        while self._is_full:
            self._has_room.clear()
            await self._has_room.wait()
        text = line.message + "\n"
        if len(text) <= PART_CHARS:
            self._lines.append((text, line.stream, line.timestamp))
        else:
            for start in range(0, len(text), PART_CHARS):
                self._lines.append((text[start : start + PART_CHARS], line.stream, line.timestamp))
        self._chars += len(text)
        self._news.set()

    def finish(self) -> None:
        """No more lines come."""
        self._is_finished = True
        self._news.set()

    async def take(self) -> list[tuple[str, str, str]] | None:
        """The lines of the next message; None when there are no more."""
        await self._news.wait()
        if not self._is_full and not self._is_finished:
            await asyncio.sleep(GATHER_SECS)
        if not self._lines:
            return None
        lines, self._lines, self._chars = self._lines, [], 0
        if not self._is_finished:
            self._news.clear()
        self._has_room.set()
        return lines

    @property
    def _is_full(self) -> bool:
        return len(self._lines) >= MOST_LINES or self._chars >= MOST_CHARS
