"""A project's network is not released under a container that is being created in it, on the machine's engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from syntra.model.image import ImageRef
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.engine import DockerEngine
from syntra.runtime.docker.networks import Networks
from syntra.runtime.docker.records import NetworkDetails
from tests.agent.samples import deployment
from tests.engine import busybox_image, engine_token

__all__ = ["engine_token"]


class SlowNetworks(Networks):
    """Holds a release between its look at the project and the removal."""

    looked = asyncio.Event()
    go_on = asyncio.Event()

    async def inspect(self, name: str) -> NetworkDetails | None:
        self.looked.set()
        await self.go_on.wait()
        return await super().inspect(name)


async def test_a_network_is_not_released_under_a_container_that_is_being_created(
    endpoint: Endpoint, engine_token: str
) -> None:
    await asyncio.to_thread(busybox_image, f"{engine_token}/app:1")
    image = ImageRef(registry="", repository=f"{engine_token}/app", tag="1")
    plain = deployment("d1", f"svc-{engine_token}", project_name=engine_token)
    wanted = replace(plain, spec=replace(plain.spec, image=image, command=("sleep", "100")))
    async with EngineClient(endpoint) as client:
        adapter = DockerEngine(client, owner="release")
        networks = adapter._creation._networks = SlowNetworks(client)
        await adapter.obtain_image(wanted, None, lambda *_: None)
        await adapter.ensure_network(engine_token)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(adapter.release_network(engine_token), name="release")
                await networks.looked.wait()
                creating = group.create_task(adapter.create(wanted, 1), name="create")
                await asyncio.wait({creating}, timeout=1.0)
                networks.go_on.set()
            container_id, _ = creating.result()
            await adapter.start(container_id)
            await adapter.release_network(engine_token)
            assert await networks.inspect(f"syntra-{engine_token}") is not None
            await adapter.remove(container_id)
        finally:
            await adapter.release_network(engine_token)
            await adapter.collect_garbage({}, frozenset({wanted.spec.service_id}))
