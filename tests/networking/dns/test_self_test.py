"""From inside a container the server is reached, or it is not and that is said; with a real rule of the kernel's."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import time

import pytest

from syntra.networking.dns import self_test
from syntra.networking.dns.forward import Forwarder
from syntra.networking.dns.server import NameServer
from syntra.networking.dns.settings import DnsSettings
from syntra.networking.dns.zone import build
from tests.engine import api, busybox_image, missing, start_container
from tests.networking.dns.test_containers import bridge

pytestmark = pytest.mark.engine


async def test_a_firewall_between_a_container_and_the_server_is_noticed(engine_token: str) -> None:
    if os.geteuid() != 0 or shutil.which("iptables") is None:
        missing("no iptables to make a rule with; install it and run as root")
    image = f"{engine_token}:1"
    await asyncio.to_thread(busybox_image, image)
    shop = await asyncio.to_thread(bridge, engine_token, "shop")
    container = await asyncio.to_thread(
        start_container, engine_token, image, command=["/bin/sleep", "600"], host={"NetworkMode": shop.name}
    )
    pid = (await asyncio.to_thread(api, "GET", f"/containers/{container}/json"))["State"]["Pid"]

    def rule(change: str, verdict: str) -> None:
        # In the container's own network, so that nobody else meets it.
        rule = ["-p", "udp", "--dport", "53", "-j", verdict]
        subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "iptables", change, "OUTPUT", *rule], check=True)

    async def reached(**kw: str) -> bool:
        return await self_test.reaches(pid, shop.gateway, 53, project="shop", **kw)

    async with asyncio.TaskGroup() as group:
        server = NameServer(group, DnsSettings(), Forwarder(list, rng=random.SystemRandom()), rng=random.Random(1))
        try:
            assert not await reached(), "nobody listens"
            assert await server.listen([shop.gateway]) == ()
            began = time.monotonic()
            assert not await reached(), "a stranger's query is dropped"
            assert time.monotonic() - began < 10
            server.publish(build({shop.subnet: "shop"}, None))
            assert await reached()
            server.publish(build({shop.subnet: "shop"}, ()))
            assert await reached()
            for verdict in ("DROP", "REJECT"):
                await asyncio.to_thread(rule, "-A", verdict)
                assert not await reached(), verdict
                await asyncio.to_thread(rule, "-D", verdict)
                assert await reached()
        finally:
            server.close()
