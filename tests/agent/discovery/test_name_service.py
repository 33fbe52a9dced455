"""Where names are answered, by whom, and what is said when that is not possible; over real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import dns.message
import dns.rcode
import pytest

from syntra.agent.config.settings import DnsSettings
from syntra.agent.discovery.name_service import NameService, build_name_service, stale_services
from syntra.agent.traffic.endpoints import NamedService
from syntra.model.container import Container, ContainerState, NameSource
from syntra.model.ids import ServiceId
from syntra.model.network import Address, ContainerDns
from syntra.networking.dns.forward import Forwarder
from syntra.networking.dns.server import NameServer
from syntra.networking.dns.settings import DnsSettings as ServerLimits
from tests.agent.fake_engine import FakeEngine
from tests.model.samples import deployment, spec
from tests.networking.dns.samples import query
from tests.networking.dns.served import ask_udp
from tests.runtime.containers.world import replica

SHOP, BLOG = FakeEngine().network("shop"), FakeEngine().network("blog")
GATEWAY = str(SHOP.gateways[0])


class Engine(FakeEngine):
    """Its containers have addresses on their project's network, and tell whom they ask for names."""

    def __init__(self) -> None:
        super().__init__()
        self.source = NameSource.AGENT

    async def observe(self, service_id: ServiceId | None = None) -> list[Container]:
        return [dataclasses.replace(found, names=self.source) for found in await super().observe(service_id)]

    async def run(self, project: str, service_id: str = "svc_1") -> None:
        wanted = deployment(project_name=project, service_id=ServiceId(service_id))
        self.pins.add((wanted.spec.service_id, wanted.deployment_id))
        container_id, _ = await self.create(wanted, 1)
        await self.start(container_id)


@dataclass
class Walls:
    """Stands for the way from a container to the server; `verdict` is what a test of it finds."""

    verdict: bool | OSError = True
    asked: list[tuple[int, str, str]] = field(default_factory=list)

    async def __call__(self, pid: int, address: Address, port: int, *, project: str) -> bool:
        self.asked.append((pid, str(address), project))
        if isinstance(self.verdict, OSError):
            raise self.verdict
        return self.verdict


@dataclass(frozen=True, kw_only=True)
class Rig:
    names: NameService
    server: NameServer
    engine: Engine
    walls: Walls

    async def ask(self, name: str, project: str = "shop", kind: str = "A") -> dns.message.Message:
        """A query as a container of the project makes it."""
        network = self.engine.network(project)
        gateway = network.gateways[0]
        wire = query(name, kind).to_wire()
        answer = await ask_udp(gateway, self.server.endpoints[gateway], wire, source=str(gateway + 7), timeout_secs=2)
        return dns.message.from_wire(answer)

    async def addresses(self, name: str, project: str = "shop") -> list[str]:
        return sorted(str(record) for rrset in (await self.ask(name, project)).answer for record in rrset)

    async def see(self) -> None:
        self.names.see(await self.engine.observe())

    async def until(self, what: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not what():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def rig(*, port: int = 0, ttl: int = 5, host_files: tuple[Path, ...] = ()) -> AsyncIterator[Rig]:
    engine, walls = Engine(), Walls()
    async with asyncio.TaskGroup() as group:
        server = NameServer(
            group, ServerLimits(port=port), Forwarder(list, rng=random.SystemRandom()), rng=random.Random(1)
        )
        names = NameService(
            DnsSettings(ttl=ttl),
            engine,
            server,
            group=group,
            reaches=walls,
            host_files=[str(path) for path in host_files],
        )
        try:
            yield Rig(names=names, server=server, engine=engine, walls=walls)
        finally:
            names.close()


def named(name: str, *ready: str, project: str = "shop") -> NamedService:
    return NamedService(
        spec=spec(service_name=name, project_name=project, port=8080, internal_hostname=f"{name}.lan"),
        ready=tuple(enumerate(ready, 1)),
    )


async def test_a_prepared_project_is_answered_on_its_gateway_as_it_sees_things(tmp_path: Path) -> None:
    resolvers = tmp_path / "resolv.conf"
    resolvers.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.53\n")
    async with rig(host_files=(tmp_path / "missing", resolvers)) as here:
        assert here.names.container_dns("shop", GATEWAY) is None
        await here.engine.ensure_network("shop")
        await here.engine.ensure_network("blog")
        await here.names.prepare("shop")
        assert here.names.container_dns("shop", GATEWAY) == ContainerDns(
            servers=(GATEWAY, "192.0.2.53"), search=("shop.internal",), options=("ndots:1",)
        )
        for project, gateway in (("blog", GATEWAY), ("shop", str(BLOG.gateways[0])), ("shop", "")):
            assert here.names.container_dns(project, gateway) is None
        assert set(here.server.endpoints) == {*SHOP.gateways}, "another project's network is somebody else's"
        assert (await here.ask("web.shop.internal")).rcode() == dns.rcode.REFUSED, "services are not known yet"
        await here.names.prepare("blog")
        here.names.show([named("web", "10.1.1.1", "10.1.1.2"), named("posts", project="blog")])
        assert await here.addresses("web") == ["10.1.1.1", "10.1.1.2"]
        assert await here.addresses("2.web.shop.internal") == ["10.1.1.2"]
        assert await here.addresses("web.lan") == ["10.1.1.1", "10.1.1.2"]
        assert (await here.ask("_8080._tcp.web.shop.internal", kind="SRV")).answer
        assert (await here.ask("posts.blog.internal", "blog")).rcode() == dns.rcode.NOERROR
        assert (await here.ask("web.shop.internal", "blog")).rcode() == dns.rcode.NXDOMAIN
        here.names.show([named("web", "10.1.1.2")])
        assert await here.addresses("web") == ["10.1.1.2"]


async def test_refreshing_follows_the_networks_and_keeps_what_was_prepared(tmp_path: Path) -> None:
    async with rig() as here:
        for project in ("shop", "blog"):
            await here.engine.ensure_network(project)
        await here.names.refresh(frozenset({"shop"}))
        await here.names.prepare("blog")
        both = {*SHOP.gateways, *BLOG.gateways}
        assert set(here.server.endpoints) == both
        await here.names.refresh(frozenset({"shop"}))
        assert set(here.server.endpoints) == both, "its first deploy is not over"
        here.engine.away = True
        await here.names.refresh(frozenset())
        await here.names.prepare("new")
        assert set(here.server.endpoints) == both, "an engine that is away tells nothing"
        here.engine.away = False
        await here.names.refresh(frozenset({"shop", "blog"}))
        await here.names.refresh(frozenset({"shop"}))
        assert set(here.server.endpoints) == {*SHOP.gateways}
        assert here.names.container_dns("blog", str(BLOG.gateways[0])) is None
        here.engine.networks_made.clear()
        await here.names.prepare("shop")
        assert not here.server.endpoints
        assert here.names.problems == ()


async def test_a_port_that_is_taken_is_said_and_bound_when_it_is_free() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((GATEWAY, 0))
        port = holder.getsockname()[1]
        async with rig(port=port) as here:
            await here.engine.ensure_network("shop")
            await here.names.prepare("shop")
            assert here.names.container_dns("shop", GATEWAY) is None
            [problem] = here.names.problems
            assert problem.startswith(f"the engine answers DNS for project shop: cannot bind {GATEWAY} port")
            holder.close()
            await here.names.refresh(frozenset({"shop"}))
            assert here.names.problems == ()
            assert here.names.container_dns("shop", GATEWAY) is not None


async def test_containers_behind_a_firewall_use_the_engine_until_it_lets_them_through() -> None:
    async with rig() as here:
        await here.engine.ensure_network("shop")
        await here.names.prepare("shop")
        here.walls.verdict = False
        await here.see()
        assert here.names.container_dns("shop", GATEWAY) is not None, "nobody can be asked before one runs"
        await here.engine.run("shop")
        await here.see()
        await here.until(lambda: here.names.problems)
        assert here.names.problems == (
            "the engine answers DNS for project shop: its containers get no answer at "
            f"{GATEWAY} port 53, as a firewall seems to drop what they ask; "
            f"run `ufw allow in on {SHOP.bridge} to any port 53`",
        )
        assert here.names.container_dns("shop", GATEWAY) is None
        assert here.walls.asked == [(4711, GATEWAY, "shop")]
        here.walls.verdict = True
        for _ in range(20):
            await here.see()
        assert len(here.walls.asked) == 1, "not at every event"
        await here.names.refresh(frozenset({"shop"}))
        await here.see()
        await here.until(lambda: not here.names.problems)
        assert here.names.container_dns("shop", GATEWAY) is not None
        await here.names.refresh(frozenset({"shop"}))
        for _ in range(20):
            await here.see()
        assert len(here.walls.asked) == 2, "once it has passed it is not asked again"


@pytest.mark.parametrize(
    ("refusal", "is_settled"), [(PermissionError("no CAP_SYS_ADMIN"), True), (FileNotFoundError("it ended"), False)]
)
async def test_what_cannot_be_tested_is_not_called_broken(refusal: OSError, is_settled: bool) -> None:
    async with rig() as here:
        await here.engine.ensure_network("shop")
        await here.engine.run("shop")
        here.walls.verdict = refusal
        await here.names.refresh(frozenset({"shop"}))
        for _ in range(20):
            await here.see()
        assert (len(here.walls.asked) == 1) == is_settled
        assert here.names.problems == ()
        assert here.names.container_dns("shop", GATEWAY) is not None


async def test_an_address_is_forgotten_when_the_last_answer_with_it_is() -> None:
    async with rig(ttl=1) as here:
        loop = asyncio.get_running_loop()
        await here.engine.ensure_network("shop")
        await here.names.prepare("shop")
        here.names.show([named("web", "10.1.1.1"), named("db", "10.1.1.2")])
        async with asyncio.timeout(1):
            await here.names.until_forgotten(["10.1.1.1", "10.1.1.2"])
        asked = loop.time()
        assert await here.addresses("web") == ["10.1.1.1"]
        here.names.show([named("db", "10.1.1.2")])
        async with asyncio.timeout(1):
            await here.names.until_forgotten(["10.1.1.2"])
            await here.names.until_forgotten([])
        await here.names.until_forgotten(["10.1.1.2", "10.1.1.1"])
        assert loop.time() - asked >= 1, "an answer may be kept for its TTL"
        async with asyncio.timeout(1):
            await here.names.until_forgotten(["10.1.1.1"])


async def test_services_made_before_are_named_with_what_to_do() -> None:
    async with rig() as here:
        await here.engine.ensure_network("shop")
        await here.engine.run("shop")
        here.engine.source = NameSource.ENGINE
        await here.names.prepare("shop")
        await here.see()
        assert here.names.problems == (
            "deploy svc_1 of project shop again: they were created before the agent answered DNS, and do not use it",
        )
        here.engine.source = NameSource.BOTH
        await here.see()
        assert here.names.problems == (
            "deploy svc_1 of project shop again: they still have engine aliases, which also resolve to replicas "
            "that are not ready",
        )
        here.engine.source = NameSource.AGENT
        await here.see()
        assert not here.names.problems


def test_aliases_are_done_without_only_when_everybody_asks_the_agent() -> None:
    def of(service: str, names: NameSource, *, project: str = "shop", up: bool = True) -> Container:
        state = ContainerState.RUNNING if up else ContainerState.EXITED
        addresses = MappingProxyType({f"syntra-{project}": ""})
        return replica(state=state, service_id=ServiceId(service), addresses=addresses, names=names)

    def said(*replicas: Container) -> list[str]:
        return stale_services([SHOP, BLOG], replicas, {ServiceId("s-web"): "web"})

    old, mixed = of("s-web", NameSource.ENGINE), of("s-db", NameSource.BOTH)
    new, down = of("s-api", NameSource.AGENT), of("s-old", NameSource.ENGINE, up=False)
    assert said(new, down) == []
    assert [line.partition(" again")[0] for line in said(old, mixed, new)] == ["deploy web of project shop"]
    assert [line.partition(" again")[0] for line in said(mixed, new)] == ["deploy s-db of project shop"]
    elsewhere = of("s-posts", NameSource.ENGINE, project="blog")
    assert [line.partition(" again")[0] for line in said(mixed, mixed, elsewhere, old)] == [
        "deploy web of project shop",
        "deploy s-posts of project blog",
    ]
    assert said(of("s-other", NameSource.ENGINE, project="unknown")) == []


async def test_the_service_listens_where_containers_ask_and_closes_for_good() -> None:
    engine = Engine()
    await engine.ensure_network("shop")
    async with asyncio.TaskGroup() as group:
        names = build_name_service(DnsSettings(port=_free_port(), upstreams=("192.0.2.1",)), engine, group)
        await names.prepare("shop")
        told = names.container_dns("shop", GATEWAY)
        assert told is not None
        assert told.servers == (GATEWAY, "192.0.2.1")
        names.close()
        names.show([named("web", "10.1.1.1")])
        names.see(await engine.observe())
        await names.refresh(frozenset({"shop"}))
        assert names.container_dns("shop", GATEWAY) is None


def test_an_agent_without_names_of_its_own_does_not_load_the_codec() -> None:
    script = "import sys, syntra.agent.app; print([name for name in sys.modules if name == 'dns'])"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert printed.stdout == "[]\n"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((GATEWAY, 0))
        return int(probe.getsockname()[1])


assert ipaddress.ip_address(GATEWAY).is_loopback, "the fake engine's networks are where tests can listen"
