"""Lookups from inside containers, through the engine's own resolver, to a server on the bridge's gateway."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from syntra.networking.dns.forward import Forwarder
from syntra.networking.dns.resolv_conf import container_dns
from syntra.networking.dns.server import NameServer
from syntra.networking.dns.settings import DnsSettings
from syntra.networking.dns.zone import Address, Network, Replica, Service, build
from tests.engine import address_of, api, busybox_image, raw, start_container
from tests.networking.dns.served import resolving, with_record

pytestmark = pytest.mark.engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A user-defined network as a project has one."""

    name: str
    gateway: Address
    subnet: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """Two projects on an engine, and a server on both gateways."""

    token: str
    image: str
    server: NameServer
    shop: Bridge
    blog: Bridge

    async def start(self, project: str, name: str, **kw: Any) -> tuple[str, Address]:
        """A container of `project`, created as the agent would; its id and address."""
        bridge = self.shop if project == "shop" else self.blog
        told = container_dns(gateway=str(bridge.gateway), project=project)
        host = {
            "NetworkMode": bridge.name,
            "Dns": list(told.servers),
            "DnsSearch": list(told.search),
            "DnsOptions": list(told.options),
            "Init": True,
        }
        container = await asyncio.to_thread(
            start_container, self.token, self.image, name=f"{self.token}-{name}", host=host, **kw
        )
        return container, ipaddress.ip_address(await asyncio.to_thread(address_of, container))

    def publish(self, *services: Service) -> None:
        self.server.publish(build({self.shop.subnet: "shop", self.blog.subnet: "blog"}, services))


def bridge(token: str, name: str) -> Bridge:
    """Create a network that carries the token."""
    created = api("POST", "/networks/create", {"Name": f"{token}-{name}", "Driver": "bridge", "CheckDuplicate": True})
    pool = api("GET", f"/networks/{created['Id']}")["IPAM"]["Config"][0]
    return Bridge(
        name=f"{token}-{name}",
        gateway=ipaddress.ip_address(pool["Gateway"]),
        subnet=ipaddress.ip_network(pool["Subnet"]),
    )


async def inside(container: str, script: str) -> str:
    """Run a shell script in the container, for 30 s at most; what it printed."""
    body = {
        "Cmd": ["/bin/timeout", "30", "/bin/sh", "-c", script],
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": True,
    }
    made = await asyncio.to_thread(api, "POST", f"/containers/{container}/exec", body)
    started = asyncio.to_thread(
        raw,
        "POST",
        f"/exec/{made['Id']}/start",
        b'{"Detach": false, "Tty": true}',
        headers={"Content-Type": "application/json"},
    )
    return (await started).decode().replace("\r", "")


@contextlib.asynccontextmanager
async def town(token: str) -> AsyncIterator[Town]:
    """Networks, an image and a server; the engine's objects are removed by the token."""
    image = f"{token}:1"
    await asyncio.to_thread(busybox_image, image)
    shop = await asyncio.to_thread(bridge, token, "shop")
    blog = await asyncio.to_thread(bridge, token, "blog")
    async with (
        resolving(lambda asked: [with_record(asked, "192.0.2.77").to_wire()]) as upstream,
        asyncio.TaskGroup() as group,
    ):
        forwarder = Forwarder(lambda: [upstream.upstream], rng=random.SystemRandom())
        server = NameServer(group, DnsSettings(), forwarder, rng=random.Random())
        try:
            assert await server.listen([shop.gateway, blog.gateway]) == ()
            yield Town(token=token, image=image, server=server, shop=shop, blog=blog)
        finally:
            server.close()


def service(name: str, *replicas: tuple[str, Address], project: str = "shop", hostname: str | None = None) -> Service:
    """A service on port 8080."""
    return Service(
        project=project,
        name=name,
        hostname=hostname,
        ports=(8080,),
        replicas=tuple(Replica(label=label, addresses=(address,)) for label, address in replicas),
    )


async def test_containers_resolve_their_projects_names_and_the_rest_of_the_world(engine_token: str) -> None:
    async with town(engine_token) as here:
        _, web = await here.start("shop", "web")
        _, posts = await here.start("blog", "posts")
        client, _ = await here.start("shop", "client", command=["/bin/sleep", "600"])
        here.publish(
            service("web", ("1", web), hostname="front.lan"),
            service("db"),
            service("posts", ("1", posts), project="blog"),
        )
        for name in ("web", "web.shop.internal", "WEB.shop.internal", "1.web.shop.internal", "front.lan"):
            assert f"Address: {web}" in await inside(client, f"nslookup -type=a {name}"), name
        assert "service = 0 0 8080 1.web.shop.internal" in await inside(
            client, "nslookup -type=srv _8080._tcp.web.shop.internal"
        )
        # The engine's resolver answers for addresses of its own networks itself; a client that asks ours gets our name.
        assert "name = 1.web.shop.internal" in await inside(client, f"nslookup {web} {here.shop.gateway}")
        assert "192.0.2.77" in await inside(client, "nslookup -type=a example.com")
        # Another project's service is not there, and one that is not ready has no address.
        for name in ("posts.blog.internal", "nothing.shop.internal"):
            assert "NXDOMAIN" in await inside(client, f"nslookup -type=a {name}"), name
        for name in ("posts", "db", "db.shop.internal"):
            printed = await inside(client, f"wget -q -O- http://{name}:8080/ || echo failed")
            assert printed.endswith("failed\n"), name
        # The C library's resolver, with and without the search domain.
        for name in ("web", "web.shop.internal"):
            assert await inside(client, f"wget -q -O- http://{name}:8080/") == "1\n", name
        assert not here.server.counts.get("dropped.source")


async def test_a_client_that_connects_by_name_sees_no_failure_across_a_switch(engine_token: str) -> None:
    async with town(engine_token) as here:
        old, old_address = await here.start("shop", "old", env={"VERSION": "old"})
        client, _ = await here.start("shop", "client", command=["/bin/sleep", "600"])
        here.publish(service("web", ("1", old_address)))
        await inside(client, "until wget -q -O- http://web:8080/; do :; done")
        loop = "touch /tmp/go; while [ -e /tmp/go ]; do wget -q -O- http://web:8080/ || echo failed; done"
        async with asyncio.TaskGroup() as group:
            running = group.create_task(inside(client, loop), name="client loop")
            new, new_address = await here.start("shop", "new", env={"VERSION": "new"})
            await inside(client, f"until wget -q -O- http://{new_address}:8080/; do :; done")
            here.publish(service("web", ("1", old_address), ("2", new_address)))
            await asked_again(here.server, 20)
            here.publish(service("web", ("2", new_address)))
            # What was resolved before is done by now: the client is one loop.
            await asked_again(here.server, 20)
            await asyncio.to_thread(api, "DELETE", f"/containers/{old}", query={"force": "1"})
            await asked_again(here.server, 20)
            await inside(client, "rm /tmp/go")
        lines = running.result().split()
        assert set(lines) == {"old", "new"}
        assert len(lines) >= 20
        assert "new" in lines[-1]
        assert await asyncio.to_thread(api, "GET", f"/containers/{new}/json")


async def asked_again(server: NameServer, times: int) -> None:
    """Wait until the server has answered so many more queries."""
    before = server.counts["NOERROR"]
    async with asyncio.timeout(30):
        while server.counts["NOERROR"] < before + times:
            await asyncio.sleep(0.01)
