"""The runtime contract, kept by Docker on a real engine, by the fake engine, and by a runtime of another kind."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syntra.agent.health.gate import HealthGate
from syntra.agent.traffic.port import NoTraffic
from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef
from syntra.model.spec import Deployment
from syntra.runtime.containers.engine import ContainerEngine
from syntra.runtime.containers.runtime import ContainerRuntime
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.engine import DockerEngine
from syntra.runtime.docker.telemetry_env import OtlpPorts
from tests.agent.fake_engine import FakeEngine
from tests.engine import busybox_image, engine_socket, engine_token
from tests.model.samples import deployment
from tests.runtime.runtime_contract import RuntimeContract, RuntimeRig
from tests.runtime.tiny_runtime import TinyRuntime

__all__ = ["engine_token"]


def deployments(service_id: ServiceId, project: str, image: ImageRef) -> Callable[..., Deployment]:
    """Deployments by id, which work or fail."""

    def of(deployment_id: str, *, fails: bool = False) -> Deployment:
        made = deployment(
            deployment_id,
            service_id=service_id,
            service_name="web",
            project_name=project,
            image=image,
            port=8080,
            memory_bytes=64 * 1024 * 1024,
            env={"FAIL": "exit"} if fails else {"VERSION": deployment_id},
        )
        return dataclasses.replace(made, timeout_secs=60.0)

    return of


def _first(repository: str) -> ImageRef:
    return ImageRef(registry="", repository=repository, tag="1")


def rig_of(
    engine: ContainerEngine, away: ContainerEngine, service_id: ServiceId, project: str, repository: str
) -> RuntimeRig:
    clock = asyncio.get_running_loop().time

    def runtime(of: ContainerEngine) -> ContainerRuntime:
        return ContainerRuntime(of, NoTraffic(), HealthGate(of, min_healthy_secs=0.3, clock=clock))

    return RuntimeRig(
        runtime=runtime(engine),
        away=runtime(away),
        service_id=service_id,
        of=deployments(service_id, project, _first(repository)),
    )


@pytest.mark.virtual_time
class TestFakeEngine(RuntimeContract):
    """Containers in memory."""

    @asynccontextmanager
    async def open_rig(self) -> AsyncIterator[RuntimeRig]:
        engine, away = FakeEngine(registry=["shop/web:1"]), FakeEngine()
        away.away = True
        yield rig_of(engine, away, ServiceId("web"), "shop", "shop/web")


@pytest.mark.virtual_time
class TestTinyRuntime(RuntimeContract):
    """A cluster in memory."""

    @asynccontextmanager
    async def open_rig(self) -> AsyncIterator[RuntimeRig]:
        away = TinyRuntime()
        away.away = True
        yield RuntimeRig(
            runtime=TinyRuntime(),
            away=away,
            service_id=ServiceId("web"),
            of=deployments(ServiceId("web"), "shop", _first("shop/web")),
        )


@pytest.mark.engine
class TestDocker(RuntimeContract):
    """Containers on the machine's engine."""

    @pytest.fixture(autouse=True)
    def parts(self, engine_token: str, tmp_path: Path) -> None:
        self.token = engine_token
        self.folder = tmp_path
        self.count = 0

    @asynccontextmanager
    async def open_rig(self) -> AsyncIterator[RuntimeRig]:
        self.count += 1
        await asyncio.to_thread(busybox_image, f"{self.token}/app:1")
        service_id = ServiceId(f"svc-{self.token}-{self.count}")
        async with (
            EngineClient(Endpoint(path=engine_socket())) as client,
            EngineClient(Endpoint(path=str(self.folder / "nobody.sock"))) as nowhere,
        ):
            engine = DockerEngine(client, owner="contract", otlp_ports=OtlpPorts(grpc=4317, http=4318))
            away = DockerEngine(nowhere, owner="contract", otlp_ports=OtlpPorts(grpc=4317, http=4318))
            try:
                yield rig_of(engine, away, service_id, self.token, f"{self.token}/app")
            finally:
                for container in await engine.observe(service_id):
                    await engine.remove(container.container_id)
                await engine.collect_garbage({}, frozenset({service_id}))
                await engine.release_network(self.token)
