"""Whom a new container asks for names, among containers that ask somebody else; on a real engine."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from syntra.model.container import NameSource
from syntra.model.ids import ServiceId
from syntra.model.image import ImageRef
from syntra.model.network import ContainerDns
from syntra.model.spec import Deployment
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import find_endpoint
from syntra.runtime.docker.engine import DockerEngine
from syntra.runtime.docker.naming import ContainerDnsOf, engine_only, project_network
from syntra.runtime.docker.parsing import network_details
from syntra.runtime.docker.telemetry_env import OtlpPorts
from tests.engine import api, busybox_image, engine_token
from tests.model.samples import deployment

__all__ = ["engine_token"]


def agent(project: str, gateway: str) -> ContainerDns:
    return ContainerDns(servers=(gateway,), search=(f"{project}.internal",), options=("ndots:1",))


@dataclasses.dataclass(kw_only=True)
class Rig:
    """An adapter over a resolver that a test changes."""

    client: EngineClient
    token: str
    answers: ContainerDnsOf = engine_only
    with_aliases: bool = True

    async def source(self, service: str, deployment_id: str = "d1", index: int = 1) -> NameSource:
        """Run a replica; who answers for names, as its label and the engine say."""
        adapter = DockerEngine(
            self.client,
            owner="naming",
            otlp_ports=OtlpPorts(grpc=4317, http=4318),
            container_dns=lambda project, gateway: self.answers(project, gateway),
            with_aliases=self.with_aliases,
        )
        wanted = self.deployment(service, deployment_id)
        await adapter.obtain_image(wanted, None, lambda *_: None)
        container_id, _ = await adapter.create(wanted, index)
        await adapter.start(container_id)
        found = await adapter.inspect(container_id)
        assert found is not None
        told = await asyncio.to_thread(api, "GET", f"/containers/{container_id}/json")
        network = told["NetworkSettings"]["Networks"][f"syntra-{self.token}"]
        has_alias = service in (network["Aliases"] or [])
        assert has_alias == (self.with_aliases and found.names is not NameSource.AGENT)
        asks_agent = told["HostConfig"]["Dns"] == [network["Gateway"]]
        assert asks_agent == (found.names is not NameSource.ENGINE)
        return found.names

    def deployment(self, service: str, deployment_id: str) -> Deployment:
        return deployment(
            deployment_id,
            service_id=ServiceId(f"{service}-{self.token}"),
            service_name=service,
            project_name=self.token,
            image=ImageRef(registry="", repository=f"{self.token}/app", tag="1"),
        )


@asynccontextmanager
async def rig(token: str) -> AsyncIterator[Rig]:
    await asyncio.to_thread(busybox_image, f"{token}/app:1")
    async with EngineClient(find_endpoint({})) as client:
        try:
            yield Rig(client=client, token=token)
        finally:
            adapter = DockerEngine(client, owner="naming", otlp_ports=OtlpPorts(grpc=4317, http=4318))
            services = frozenset(ServiceId(f"{name}-{token}") for name in ("web", "db"))
            for service_id in services:
                for replica in await adapter.observe(service_id):
                    await adapter.remove(replica.container_id)
            await adapter.collect_garbage({}, services)


@pytest.mark.engine
async def test_aliases_stay_until_nobody_who_stays_asks_the_engine(engine_token: str) -> None:
    async with rig(engine_token) as here:
        assert await here.source("web") is NameSource.ENGINE
        assert await here.source("db") is NameSource.ENGINE
        here.answers = agent
        # Of the same deployment, so what runs of it stays; then the other service alone is left that asks the engine.
        assert await here.source("web", index=2) is NameSource.BOTH
        assert await here.source("web", "d2") is NameSource.BOTH
        adapter = DockerEngine(here.client, owner="naming", otlp_ports=OtlpPorts(grpc=4317, http=4318))
        for replica in await adapter.observe(ServiceId(f"web-{engine_token}")):
            if replica.deployment_id == "d1":
                await adapter.stop(replica.container_id, 0)
        assert await here.source("db", "d2") is NameSource.AGENT, "its own old container is about to go"
        assert await here.source("web", "d3") is NameSource.BOTH, "the old db runs on"


@pytest.mark.engine
async def test_where_the_agent_does_not_answer_aliases_are_the_operators_choice(engine_token: str) -> None:
    async with rig(engine_token) as here:
        here.with_aliases = False
        assert await here.source("web") is NameSource.ENGINE


def test_pools_become_subnets_and_gateways() -> None:
    pools = [
        {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"},
        {"Subnet": "fd00:18::/64", "Gateway": "fd00:18::1/64"},
        {"Subnet": "fd00:19::/64"},
        {},
    ]
    options = {"com.docker.network.bridge.name": "shop0"}
    details = network_details({"Id": "0123456789abcdef", "Name": "n", "IPAM": {"Config": pools}, "Options": options})
    found = project_network(details, "shop")
    assert [str(subnet) for subnet in found.subnets] == ["172.18.0.0/16", "fd00:18::/64", "fd00:19::/64"]
    assert [str(gateway) for gateway in found.gateways] == ["172.18.0.1", "fd00:18::1"]
    assert (found.project, found.bridge) == ("shop", "shop0")
