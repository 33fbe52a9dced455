"""Container logs (Engine API, "Get container logs"): records with timestamps, optionally across restarts.

Reading follows the consumer: while it takes no records, at most one buffer is read and the engine waits.
Close the generators with `contextlib.aclosing`: that closes the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from decimal import Decimal

from syntra.model.status import LogLine
from syntra.runtime.docker import fields
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import Conflict, NotFound
from syntra.runtime.docker.frames import MAX_LINE_BYTES, LineJoiner, demultiplexer
from syntra.runtime.docker.paths import Query, path
from syntra.runtime.docker.records import ContainerDetails, LogRecord
from syntra.runtime.docker.resume import LogResume, since_parameter
from syntra.utils.timestamps import format_ns

POLL_SECS = 1.0
"""How often to check whether a stopped container was started again."""
_FIRST_POLL_SECS = 0.1
_NEVER = "0001-"
"""The start of the engine's zero time."""

IsGone = Callable[[], Awaitable[bool]]


class Logs:
    """The log calls of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._containers = Containers(client)

    async def follow(
        self,
        container: str,
        *,
        tail: int | None = None,
        since: str | None = None,
        until: str | None = None,
        follow: bool = True,
        resume: LogResume | None = None,
        line_bytes: int = MAX_LINE_BYTES,
    ) -> AsyncGenerator[LogRecord, None]:
        """Records of a container's log, oldest first; `tail` gives only the last lines, None all.

        `since` and `until` are timestamps of records, inclusive. With `follow` it continues until the container stops;
        it ends at once if the container is stopped. `resume` overrides `since`, drops what it has seen and learns what
        is read.

        Raises NotFound, Conflict when the container is being removed, EngineError when its log driver cannot be read,
        StreamBroken when the connection drops.
        """
        tty = fields.flag((await self._containers.inspect(container)).raw, "Config", "Tty")
        if resume is not None and resume.since is not None:
            since = resume.since
        query: Query = {
            "stdout": True,
            "stderr": True,
            "timestamps": True,
            "follow": follow,
            "tail": "all" if tail is None else tail,
            "since": None if since is None else since_parameter(since),
            "until": None if until is None else since_parameter(until),
        }
        decoder, joiner = demultiplexer(tty=tty), LineJoiner(tty=tty, line_bytes=line_bytes)
        try:
            async with self._client.stream("GET", path("containers", container, "logs"), query=query) as stream:
                async for chunk in stream:
                    for frame in decoder.feed(chunk):
                        for record in joiner.feed(frame):
                            if resume is None or resume.admit(record):
                                yield record
                    if decoder.error is not None:
                        raise decoder.error
            decoder.feed_eof()
            if decoder.error is not None:
                raise decoder.error
            for record in joiner.flush():
                if resume is None or resume.admit(record):
                    yield record
        finally:
            if resume is not None:
                resume.hold(joiner.pending_since)

    async def follow_restarts(
        self,
        container: str,
        *,
        tail: int | None = None,
        resume: LogResume | None = None,
        is_gone: IsGone | None = None,
        poll_secs: float = POLL_SECS,
    ) -> AsyncGenerator[LogRecord, None]:
        """Records for as long as the container exists: continues when it is started again, ends when it is removed.

        `is_gone` is called each time a run's log has ended and while the container is stopped: True ends the iteration.
        It may wait, to save polling. A dropped connection raises: call again with the same `resume`.
        """
        resume = resume or LogResume()
        try:
            details = await self._containers.inspect(container)
            while True:
                limit = tail if resume.since is None else None
                try:
                    async with aclosing(self.follow(container, tail=limit, resume=resume)) as records:
                        async for record in records:
                            yield record
                except Conflict:
                    pass  # it is being removed: the next inspect shows it
                later = await self._next_run(container, details.state.started_at, is_gone, poll_secs)
                if later is None:
                    return
                finished_at = later.state.finished_at
                if not finished_at.startswith(_NEVER):
                    # Podman tells times of records in whole seconds, but compares `since` with the exact ones.
                    # In a crash loop this may be the end of a run that was not read.
                    is_exact = resume.is_coarse and later.restart_count - details.restart_count <= 1
                    # Nothing may have been read yet, and lines older than the tail are not wanted later either.
                    if is_exact or (tail is not None and resume.since is None):
                        resume.continue_after(finished_at)
                details = later
        except NotFound:
            return

    async def _next_run(
        self, container: str, started_at: str, is_gone: IsGone | None, poll_secs: float
    ) -> ContainerDetails | None:
        """The container once it runs (again); None when it is gone."""
        pause = min(_FIRST_POLL_SECS, poll_secs)
        while True:
            if is_gone is not None and await is_gone():
                return None
            details = await self._containers.inspect(container)
            if details.state.started_at != started_at:
                return details
            await asyncio.sleep(pause)
            pause = min(pause * 2, poll_secs)
            if details.state.status == "running":
                return details


async def log_lines(source: AsyncIterator[LogRecord]) -> AsyncIterator[LogLine]:
    """The lines as the agent passes them on."""
    async for record in source:
        yield LogLine(
            timestamp=record.timestamp,
            stream=record.stream.value,
            message=record.message,
            truncated=record.truncated,
        )


def as_timestamp(text: str | None) -> str | None:
    """RFC 3339 of what a person or a control plane gave: that already, or epoch seconds."""
    if text is None or not text.replace(".", "", 1).isdigit():
        return text
    return format_ns(int(Decimal(text) * 1_000_000_000))
