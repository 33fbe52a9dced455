"""A project's network is not released under a container that is being created in it, on the machine's engine."""

from __future__ import annotations

import asyncio
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syntra.model.image import ImageRef
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.engine import DockerEngine
from syntra.runtime.docker.networks import Networks
from tests.agent.samples import deployment
from tests.e2e.kill_proxy import KillProxy
from tests.engine import busybox_image, engine_token

__all__ = ["engine_token"]


_LOOK = re.compile(r"GET /v[\d.]+/networks/[0-9a-f]{64} ")


class SlowEngine(KillProxy):
    """An engine that is slow to answer about a network, between the agent's look at the project and its removal."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.has_come = threading.Event()
        self.go_on = threading.Event()

    async def _before(self, line: str) -> None:
        if _LOOK.match(line):
            self.has_come.set()
            await asyncio.to_thread(self.go_on.wait, 30)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A unix socket's path may have 107 bytes; pytest's own folders are longer at times."""
    with tempfile.TemporaryDirectory(prefix="syn-", dir="/tmp") as folder:
        yield Path(folder)


async def test_a_network_is_not_released_under_a_container_that_is_being_created(
    short_folder: Path, engine_token: str
) -> None:
    await asyncio.to_thread(busybox_image, f"{engine_token}/app:1")
    image = ImageRef(registry="", repository=f"{engine_token}/app", tag="1")
    plain = deployment("d1", f"svc-{engine_token}", project_name=engine_token)
    wanted = replace(plain, spec=replace(plain.spec, image=image, command=("sleep", "100")))
    socket = short_folder / "engine.sock"
    engine = SlowEngine(socket)
    with engine:
        async with EngineClient(Endpoint(path=str(socket))) as client:
            adapter = DockerEngine(client, owner="release")
            await adapter.obtain_image(wanted, None, lambda *_: None)
            await adapter.ensure_network(engine_token)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(adapter.release_network(engine_token), name="release")
                    assert await asyncio.to_thread(engine.has_come.wait, 30)
                    creating = group.create_task(adapter.create(wanted, 1), name="create")
                    await asyncio.wait({creating}, timeout=1.0)
                    engine.go_on.set()
                container_id, _ = creating.result()
                await adapter.start(container_id)
                await adapter.release_network(engine_token)
                assert await Networks(client).inspect(f"syntra-{engine_token}") is not None
                await adapter.remove(container_id)
            finally:
                engine.go_on.set()
                await adapter.release_network(engine_token)
                await adapter.collect_garbage({}, frozenset({wanted.spec.service_id}))
