"""The engine contract, kept by Docker on a real engine and by the fake that stands for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef
from syntra.model.spec import RegistryAuth
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.engine import DockerEngine
from syntra.runtime.docker.telemetry_env import OtlpPorts
from tests.agent.fake_engine import FakeEngine
from tests.engine import EngineRefused, LocalRegistry, api, busybox_image, engine_socket, engine_token
from tests.runtime.containers.engine_contract import EngineContract, Rig

__all__ = ["engine_token"]

AUTH = RegistryAuth(username="ann", password="s3cret-of-ann")


@pytest.mark.virtual_time
class TestFakeEngine(EngineContract):
    """In memory."""

    @asynccontextmanager
    async def open_rig(self) -> AsyncIterator[Rig]:
        engine = FakeEngine(registry=["shop/pushed:1"])
        engine.images["shop/local:1"] = False
        engine.password = AUTH.password
        away = FakeEngine()
        away.away = True

        def stop_registry() -> None:
            engine.registry_up = False

        async def declaring() -> ImageRef:
            engine.images["shop/declaring:1"] = False
            engine.declared["shop/declaring:1"] = frozenset({"/data"})
            return _image("shop/declaring")

        yield Rig(
            engine=engine,
            away=away,
            service_id=ServiceId("svc-1"),
            project="shop",
            local=_image("shop/local"),
            pushed=_image("shop/pushed"),
            missing=_image("shop/missing"),
            auth=AUTH,
            port=8099,
            stop_registry=stop_registry,
            declaring=declaring,
            left=[],
        )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry"), user=AUTH.username, password=AUTH.password) as running:
        yield running


@pytest.mark.engine
class TestDockerAdapter(EngineContract):
    """On the machine's engine."""

    exact_log_times = True

    @pytest.fixture(autouse=True)
    def parts(self, engine_token: str, registry: LocalRegistry, tmp_path: Path) -> None:
        self.token = engine_token
        self.registry = registry
        self.folder = tmp_path

    @asynccontextmanager
    async def open_rig(self) -> AsyncIterator[Rig]:
        token, registry = self.token, self.registry
        local = f"{token}/app:1"
        image = await asyncio.to_thread(busybox_image, local)
        await asyncio.to_thread(registry.push, image, token, "1")
        service_id = ServiceId(f"svc-{token}")
        stopped = asyncio.Event()
        left: list[str] = []

        async def declaring() -> ImageRef:
            await asyncio.to_thread(busybox_image, f"{token}/declaring:1", changes=["VOLUME /data"])
            return _image(f"{token}/declaring")

        def stop_registry() -> None:
            stopped.set()
            registry.stop()

        async with (
            EngineClient(Endpoint(path=engine_socket())) as client,
            EngineClient(Endpoint(path=str(self.folder / "nobody.sock"))) as nowhere,
            asyncio.TaskGroup() as group,
        ):
            engine = DockerEngine(client, owner="contract", otlp_ports=OtlpPorts(grpc=4317, http=4318))
            watching = group.create_task(engine.watch(lambda: None), name="watch")
            try:
                yield Rig(
                    engine=engine,
                    away=DockerEngine(nowhere, owner="contract", otlp_ports=OtlpPorts(grpc=4317, http=4318)),
                    service_id=service_id,
                    project=token,
                    local=_image(f"{token}/app"),
                    pushed=_image(token, registry=registry.address),
                    missing=_image(token, "2", registry=registry.address),
                    auth=AUTH,
                    port=_free_port(),
                    stop_registry=stop_registry,
                    declaring=declaring,
                    left=left,
                    exact_log_times=self.exact_log_times,
                )
            finally:
                for replica in await engine.observe():
                    if token in replica.service_id:
                        await engine.remove(replica.container_id)
                for name in left:
                    with contextlib.suppress(EngineRefused):
                        await asyncio.to_thread(api, "DELETE", f"/volumes/{name}")
                # Pins are named by the service in hex, where clean-up by token does not find them.
                await engine.collect_garbage({}, frozenset({service_id, ServiceId(f"{service_id}x")}))
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
                if stopped.is_set():
                    await asyncio.to_thread(registry.start)


def _image(repository: str, tag: str = "1", *, registry: str = "") -> ImageRef:
    return ImageRef(registry=registry, repository=repository, tag=tag)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
