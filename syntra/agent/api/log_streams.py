"""Subscriptions to a service's log lines: the replicas' logs merged; new replicas are added as they start."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Protocol, TypeVar

from syntra.agent.changes import Changes
from syntra.agent.operations.engine_away import until_back
from syntra.model.command import LogsSubscribe
from syntra.model.fields import Json
from syntra.model.ids import ContainerId, DeploymentId
from syntra.model.status import LogLine, Replica, ReplicaStatus
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.runtime.runtime import Availability, Failures, LogRange, Logs, Replicas
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_ns

log = logging.getLogger(__name__)

# Lines queued between the engine and a subscriber; when the queue is full, reading from the engine pauses.
QUEUE_LINES = 1000
BATCH_LINES = 500
# A character takes up to 12 bytes in JSON, and a frame may have 16 MiB.
BATCH_CHARS = 1024 * 1024
# How long a line waits for others to share its batch.
BATCH_SECS = 0.1
# Events announce new replicas; this finds those whose event was lost.
RECHECK_SECS = 5.0

# The most characters that the agent holds for one subscription.
MAX_CHARS = 16 * 1024 * 1024

Send = Callable[[Mapping[str, Json]], Awaitable[None]]
# A line and the number of the replica that wrote it; 0 for what the agent says about all of them.
Said = tuple[int, LogLine]
T = TypeVar("T")


class LogSource(Replicas, Failures, Logs, Availability, Protocol):
    """The runtime's capabilities that log streams need."""


@frozen
class Selected:
    """The replicas whose lines are read. `failed`: the deployment id, when it is a failed one that is read."""

    replicas: tuple[Replica, ...]
    failed: DeploymentId | None = None


async def selected(source: LogSource, command: LogsSubscribe) -> Selected:
    """Those of the deployment that the command names; else the service's.

    While nothing of the service runs, its failed deployment is read instead. Raises the runtime's errors.
    """
    replicas = await source.observe(command.service_id)
    wanted = command.deployment_id
    if wanted is None and any(replica.status is not ReplicaStatus.STOPPED for replica in replicas):
        return Selected(replicas=tuple(replicas))
    found = [replica for replica in replicas if wanted in (None, replica.deployment_id)]
    failed = [item.replica for item in await source.failed(command.service_id)]
    left = max(
        (replica for replica in failed if wanted in (None, replica.deployment_id)),
        key=lambda replica: replica.created_ns,
        default=None,
    )
    if left is None or (wanted is not None and found):
        return Selected(replicas=tuple(found))
    return Selected(replicas=(left,), failed=left.deployment_id)


class LogSubscription:
    """One subscription. `run` sends `log_stream` payloads until the lines end, or until cancelled when following."""

    def __init__(self, source: LogSource, changes: Changes, command: LogsSubscribe, send: Send) -> None:
        self._source = source
        self._changes = changes.follow()
        self._command = command
        self._send = send
        self._lines: asyncio.Queue[Said] = asyncio.Queue(QUEUE_LINES)

    async def run(self) -> None:
        """Send the lines; raises the errors of the runtime and `send`. Always ends with `done` unless cancelled."""
        replicas = (await selected(self._source, self._command)).replicas
        if self._command.follow:
            await self._follow(replicas)
            return
        async with aclosing(self._held(replicas)) as held:
            async for batch in held:
                await self._send_lines(batch)
        await self._send(self._payload([], done=True))

    async def _held(self, replicas: Sequence[Replica]) -> AsyncGenerator[list[Said]]:
        """The lines that the engine has, in batches: one log in its order, several sorted by time."""
        if len(replicas) == 1:
            [only] = replicas
            batch: list[Said] = []
            async with self._source.logs(only.container_id, self._range()) as lines:
                async for line in lines:
                    batch.append((only.index, line))
                    if len(batch) == BATCH_LINES:
                        yield batch
                        batch = []
            if batch:
                yield batch
            return
        newest = NewestLines(self._command.tail)
        for replica in replicas:
            async with self._source.logs(replica.container_id, self._range()) as lines:
                async for line in lines:
                    newest.add(line, replica.index)
        if newest.cut is not None:
            sentence = f"lines up to {newest.cut.timestamp} are left out: all together are too long; ask for fewer"
            yield [(0, LogLine(timestamp=newest.cut.timestamp, stream="stderr", message=f"[syntra] {sentence}"))]
        kept = newest.taken()
        while batch := list(itertools.islice(kept, BATCH_LINES)):
            yield batch

    def _range(self) -> LogRange:
        command = self._command
        return LogRange(tail=command.tail, follow=False, since=command.since, until=command.until)

    async def _follow(self, replicas: Sequence[Replica]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flush(), name="log flush")
            known: set[ContainerId] = set()
            first = True
            while True:
                for replica in replicas:
                    if replica.container_id not in known:
                        known.add(replica.container_id)
                        group.create_task(
                            self._pump(replica, self._command.tail if first else None), name=f"logs {replica.name}"
                        )
                first = False
                await self._changes.wait(RECHECK_SECS)
                with suppress(RuntimeUnavailable):
                    replicas = (await selected(self._source, self._command)).replicas

    async def _pump(self, replica: Replica, tail: int | None) -> None:
        # A later replica is read from its first line; `since` applies to the first replicas only.
        since = self._command.since if tail is not None else None
        wanted = LogRange(tail=tail if tail is not None else -1, follow=True, since=since)
        while True:
            try:
                async with self._source.logs(replica.container_id, wanted) as lines:
                    async for line in lines:
                        if self._command.until is not None and line.timestamp > self._command.until:
                            return
                        await self._lines.put((replica.index, line))
                        wanted = LogRange(tail=-1, follow=True, since=line.timestamp)
                return
            except StepFailed as ended:
                await self._note(replica, f"the log of {replica.name} ends here: {ended}")
                return
            except RuntimeUnavailable as away:
                await self._note(replica, f"the log of {replica.name} is interrupted: {away}")
            # Resume after the last line once the engine is back; the log of a container that is gone ends.
            await until_back(self._source)

    async def _note(self, replica: Replica, sentence: str) -> None:
        line = LogLine(timestamp=format_ns(time.time_ns()), stream="stderr", message=f"[syntra] {sentence}")
        await self._lines.put((replica.index, line))

    async def _flush(self) -> None:
        async for batch in batches(self._lines):
            await self._send_lines(batch)

    async def _send_lines(self, lines: Sequence[Said]) -> None:
        begin = chars = 0
        for number, (_, line) in enumerate(lines):
            chars += len(line.message)
            if chars > BATCH_CHARS and number > begin:
                await self._send(self._payload(lines[begin:number], done=False))
                begin, chars = number, len(line.message)
        await self._send(self._payload(lines[begin:], done=False))

    def _payload(self, lines: Sequence[Said], *, done: bool) -> dict[str, Json]:
        return {
            "request_id": self._command.request_id,
            "service_id": self._command.service_id,
            "logs": [_line(number, line) for number, line in lines],
            "done": done,
        }


def _line(replica: int, line: LogLine) -> dict[str, Json]:
    shown: dict[str, Json] = {"timestamp": line.timestamp, "stream": line.stream, "message": line.message}
    if replica:
        shown["replica"] = replica
    if line.truncated:
        shown["truncated"] = True
    return shown


async def batches(queue: asyncio.Queue[T]) -> AsyncIterator[list[T]]:
    """Lines from a queue in batches; a batch has the lines that arrive within BATCH_SECS of its first."""
    while True:
        batch = [await queue.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(BATCH_SECS):
                while len(batch) < BATCH_LINES:
                    batch.append(await queue.get())
        yield batch


class NewestLines:
    """Keeps the newest `count` lines, and at most `chars` characters in all."""

    def __init__(self, count: int, chars: int = MAX_CHARS) -> None:
        self._count = count
        self._chars = chars
        self._held = 0
        self._added = 0
        self._heap: list[tuple[str, int, LogLine, int]] = []
        self.cut: LogLine | None = None
        """The newest line that was dropped because all lines together were too long."""

    def add(self, line: LogLine, replica: int = 0) -> None:
        """Add a line of any log; lines with equal timestamps keep their order."""
        heapq.heappush(self._heap, (line.timestamp, self._added, line, replica))
        self._added += 1
        self._held += len(line.message)
        while len(self._heap) > self._count or (self._held > self._chars and len(self._heap) > 1):
            too_many = len(self._heap) > self._count
            _, _, oldest, _ = heapq.heappop(self._heap)
            self._held -= len(oldest.message)
            if not too_many:
                self.cut = oldest

    def taken(self) -> Iterator[Said]:
        """Remove and return the lines with their replicas, oldest first."""
        while self._heap:
            _, _, line, replica = heapq.heappop(self._heap)
            yield replica, line
