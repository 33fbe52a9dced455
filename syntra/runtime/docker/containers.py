"""Containers: list, inspect, create, and all state changes (Engine API, "Containers").

Methods accept names and ids. They raise NotFound when the container does not exist, unless they say otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from syntra.model.ids import ContainerId
from syntra.runtime.docker import fields, parsing
from syntra.runtime.docker.client import DEADLINE_SECS, EngineClient
from syntra.runtime.docker.errors import Conflict, EngineError, EngineTimeout, NotFound, StreamBroken
from syntra.runtime.docker.jsonlines import JsonStream
from syntra.runtime.docker.paths import Query, label_filter, path
from syntra.runtime.docker.product import Product, podman_create_body
from syntra.runtime.docker.records import ContainerDetails, ContainerSummary

CREATE_SECS = 60.0
"""Creating copies image content into new volumes, which is slow for large images."""
START_SECS = 120.0
"""Starting waits for the low-level runtime, which is slow on a loaded host."""
STOP_MARGIN_SECS = 30.0
"""Time for stopping beyond the grace: the kill, and the clean-up of network and file system."""
REMOVE_SECS = 60.0
"""Removing deletes the container's layer, and its anonymous volumes where that is asked for."""
STATS_SECS = 10.0
"""The engine itself takes up to two seconds for one stats sample."""
_POLL_SECS = 0.05
_POLL_MAX_SECS = 1.0
_NOT_STOPPED = "could not be stopped"
"""Podman's words, with 500, for a removal while the container ends by itself. Then it has ended, and can be removed."""
REMOVE_TIMES = 4

_log = logging.getLogger(__name__)


class Containers:
    """The container calls of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def list(
        self, *, labels: Mapping[str, str | None], all: bool = True, published: int | None = None
    ) -> list[ContainerSummary]:
        """Containers with all these labels (None: any value); `all` includes stopped ones.

        With `published`, only containers that publish this port of the host.
        """
        filters: dict[str, object] = {"label": label_filter(labels)} if labels else {}
        if published is not None:
            filters["publish"] = [str(published)]
        query: Query = {"all": all, "filters": filters}
        response = await self._client.request("GET", "/containers/json", query=query)
        return [parsing.container_summary(row) for row in fields.array({"rows": response.json()}, "rows")]

    async def inspect(self, container: str) -> ContainerDetails:
        response = await self._client.request("GET", path("containers", container, "json"))
        return parsing.container_details(fields.mapping({"row": response.json()}, "row"))

    async def create(self, name: str, body: Mapping[str, object]) -> str:
        """Create, not start; return the id. Conflict when the name is taken, NotFound when the image is missing."""
        if await self._client.product() is Product.PODMAN:
            body = podman_create_body(body)
        response = await self._client.request(
            "POST", "/containers/create", query={"name": name}, body=body, deadline=CREATE_SECS
        )
        answer = response.json()
        for warning in fields.texts(answer, "Warnings"):
            _log.warning("the engine warns about a new container", extra={"container": name, "warning": warning})
        return fields.text(answer, "Id")

    async def create_free(self, name: str, body: Mapping[str, object]) -> tuple[ContainerId, str]:
        """Create by that name or, where it is taken, by one with a suffix; id and name."""
        try:
            return ContainerId(await self.create(name, body)), name
        except Conflict as clash:
            if "name" not in clash.message.lower():
                raise
            # The name is held by a container that is being removed, or by another owner's: names are for people, labels
            # say what is ours.
            name = f"{name}-{secrets.token_hex(2)}"
            return ContainerId(await self.create(name, body)), name

    async def start(self, container: str) -> bool:
        """False when it already runs. BadParameter for a bad command, EngineError for a host port in use."""
        response = await self._client.request("POST", path("containers", container, "start"), deadline=START_SECS)
        return response.status != 304

    async def stop(self, container: str, grace_secs: float) -> bool:
        """Stop signal, then SIGKILL after the grace (rounded up to seconds). False when it was not running.

        Cancelling does not undo it: the engine continues to stop the container.
        """
        grace = max(0, math.ceil(grace_secs))
        response = await self._client.request(
            "POST", path("containers", container, "stop"), query={"t": grace}, deadline=grace + STOP_MARGIN_SECS
        )
        return response.status != 304

    async def restart(self, container: str, grace_secs: float) -> None:
        """Stop as in `stop`, then start."""
        grace = max(0, math.ceil(grace_secs))
        await self._client.request(
            "POST",
            path("containers", container, "restart"),
            query={"t": grace},
            deadline=grace + STOP_MARGIN_SECS + START_SECS,
        )

    async def kill(self, container: str, signal: str) -> None:
        """Send a signal such as "SIGKILL". Conflict when it is not running.

        After such a signal the engine does not restart the container when it exits next.
        """
        await self._client.request("POST", path("containers", container, "kill"), query={"signal": signal})

    async def set_restarts(self, container: str, policy: str) -> None:
        """Change the restart policy to `always` or `no`, which an engine keeps when it restarts.

        Nothing on Podman: see `podman_create_body`.
        """
        if await self._client.product() is Product.DOCKER:
            body = {"RestartPolicy": {"Name": policy}}
            await self._client.request("POST", path("containers", container, "update"), body=body)

    async def rename(self, container: str, name: str) -> None:
        """Conflict when the name is taken."""
        await self._client.request("POST", path("containers", container, "rename"), query={"name": name})

    async def rename_free(self, container: str, name: str) -> str:
        """Rename to that name or, where it is taken, to one with a suffix; the name."""
        try:
            await self.rename(container, name)
        except Conflict:
            name = f"{name}-{secrets.token_hex(2)}"
            await self.rename(container, name)
        return name

    async def remove(
        self, container: str, *, force: bool = False, volumes: bool = False, deadline: float = REMOVE_SECS
    ) -> None:
        """Remove and wait until it is gone; no error if it does not exist. `volumes` takes its anonymous volumes too.

        Conflict when it runs and `force` is not set. Waits for a removal that another client has begun, because the
        name stays taken until it ends; EngineTimeout when that takes longer than `deadline` seconds.
        """
        for left in reversed(range(REMOVE_TIMES)):
            try:
                await self._client.request(
                    "DELETE", path("containers", container), query={"force": force, "v": volumes}, deadline=deadline
                )
                return
            except NotFound:
                return
            except EngineError as exc:
                if isinstance(exc, Conflict) and "already in progress" in exc.message:
                    await self._wait_gone(container, deadline)
                    return
                if not force or not left or _NOT_STOPPED not in exc.message:
                    raise
            await asyncio.sleep(_POLL_SECS)

    async def _wait_gone(self, container: str, deadline: float) -> None:
        pause = _POLL_SECS
        try:
            async with asyncio.timeout(deadline):
                while True:
                    try:
                        await self._client.request("GET", path("containers", container, "json"))
                    except NotFound:
                        return
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _POLL_MAX_SECS)
        except TimeoutError as exc:
            raise EngineTimeout(f"remove container {container}", deadline) from exc

    async def wait(self, container: str, condition: str = "not-running", *, deadline: float | None = None) -> int:
        """Wait for "not-running", "next-exit" or "removed"; return the exit code.

        `deadline` in seconds limits the wait (EngineTimeout); None waits for ever.
        """
        async with self.armed_wait(container, condition) as outcome:
            try:
                async with asyncio.timeout(deadline):
                    return await outcome()
            except TimeoutError as exc:
                raise EngineTimeout(f"wait for container {container} to be {condition}", deadline or 0.0) from exc

    @asynccontextmanager
    async def armed_wait(
        self, container: str, condition: str = "not-running"
    ) -> AsyncIterator[Callable[[], Awaitable[int]]]:
        """A wait that is active when the block begins: start the container inside, then await the yielded function.

        Otherwise the exit of a short-lived container between start and wait would be missed.
        """
        where = path("containers", container, "wait")
        async with self._client.stream("POST", where, query={"condition": condition}) as stream:

            async def outcome() -> int:
                decoder = JsonStream()
                async for chunk in stream:
                    for value in decoder.feed(chunk):
                        return fields.integer(value, "StatusCode")
                raise decoder.error or StreamBroken(f"POST {where}", "it ended without an exit code")

            yield outcome

    async def stats(self, container: str) -> Mapping[str, object]:
        """One raw sample for `stats.container_reading`; empty when the container does not run."""
        query = {"stream": False, "one-shot": True}
        response = await self._client.request(
            "GET", path("containers", container, "stats"), query=query, deadline=DEADLINE_SECS + STATS_SECS
        )
        return fields.mapping({"sample": response.json()}, "sample")
