"""The output of pods, through the API server.

Its lines have a time with nanoseconds but not a stream: standard output and error are one. `sinceTime` has whole
seconds, so what is before the wanted time is left out here. A stream ends with the container, and the next begins where
it ended: lines of the same nanosecond are counted, so that none comes twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from syntra.model.ids import ContainerId
from syntra.model.status import LogLine
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.cluster import Cluster, id_parts
from syntra.runtime.kubernetes.connection import ApiConnection
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.lines import LineSplitter
from syntra.runtime.kubernetes.names import CONTAINER
from syntra.runtime.kubernetes.resources import POD
from syntra.runtime.runtime import LogRange
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import format_ns, parse_ns

MAX_LINE_BYTES = 1024 * 1024
# How long to wait for the next run of a container that has ended.
AGAIN_SECS = 1.0


class PodLogs:
    """Implements `runtime.runtime.Logs`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client: KubernetesClient = cluster.client

    async def tail(self, container_id: ContainerId, lines: int) -> list[LogLine]:
        """The last lines of a pod: of the run that ended last, or runs; else of the one before."""
        namespace, name = id_parts(container_id)
        # While a container waits for its next start, its log is that of the run that ended.
        for previous in (False, True):
            query = {"container": CONTAINER, "timestamps": "true", "tailLines": str(lines)}
            if previous:
                query["previous"] = "true"
            try:
                body = await self._client.read("GET", POD.path(namespace, name, "log"), query=query, what="read logs")
            except ApiRefusal:
                # It has not run yet, or has no earlier run.
                continue
            if found := [line for line in map(log_line, body.splitlines()) if _moment(line.timestamp) is not None]:
                return found[-lines:]
        return []

    @asynccontextmanager
    async def logs(self, container_id: ContainerId, wanted: LogRange) -> AsyncIterator[AsyncIterator[LogLine]]:
        """Lines as they arrive; with `follow`, across restarts until the pod is removed."""
        namespace, name = id_parts(container_id)
        lines = self._lines(namespace, name, wanted)
        try:
            yield lines
        finally:
            await lines.aclose()

    async def _lines(self, namespace: str, name: str, wanted: LogRange) -> AsyncGenerator[LogLine, None]:
        since, until = _moment(wanted.since), _moment(wanted.until)
        # The last line's time, and how many lines had it.
        last, count = since or 0, 0
        is_first = True
        while True:
            query = {"container": CONTAINER, "timestamps": "true"}
            if wanted.follow:
                query["follow"] = "true"
            if is_first:
                query["tailLines"] = str(wanted.tail)
            if last:
                query["sinceTime"] = format_ns(last)
            path = POD.path(namespace, name, "log")
            try:
                async with self._client.stream(path, query, what=f"read the logs of {name}") as connection:
                    skip, seen_last = count, last
                    async for line in _stream_lines(connection):
                        at = _moment(line.timestamp)
                        # The kubelet says in a line of its own that a log is gone.
                        if at is None or at < seen_last or (until is not None and at > until):
                            continue
                        if at == seen_last and skip > 0:
                            skip -= 1
                            continue
                        count = count + 1 if at == last else 1
                        last = at
                        yield line
            except ApiRefusal as refused:
                if refused.is_not_found:
                    return
                if refused.status != 400:
                    raise
                # The container has not started yet, or waits for its next start.
            if not wanted.follow or await self._has_gone(namespace, name):
                return
            is_first = False
            await asyncio.sleep(AGAIN_SECS)

    async def _has_gone(self, namespace: str, name: str) -> bool:
        try:
            await self._client.get(POD.path(namespace, name), what=f"read pod {name}")
        except ApiRefusal as refused:
            if refused.is_not_found:
                return True
            raise
        return False


async def _stream_lines(connection: ApiConnection) -> AsyncIterator[LogLine]:
    """The lines of a stream, with a last one that has no end."""
    splitter = LineSplitter(MAX_LINE_BYTES)
    while chunk := await connection.read():
        for raw in splitter.feed(chunk):
            yield log_line(raw)
    for raw in splitter.feed_eof():
        yield log_line(raw)


def log_line(raw: bytes) -> LogLine:
    """One line of the API server's, which begins with its time."""
    stamp, _, message = raw.decode("utf-8", "replace").partition(" ")
    return LogLine(timestamp=stamp, stream="stdout", message=message.rstrip("\r"))


def _moment(stamp: str | None) -> int | None:
    """RFC 3339 or epoch seconds, in epoch nanoseconds; None without one."""
    if not stamp:
        return None
    try:
        return int(float(stamp) * 1e9)
    except ValueError:
        pass
    try:
        return parse_ns(stamp)
    except AgentError:
        return None
