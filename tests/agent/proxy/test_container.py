"""Bringing up a proxy, on an engine in memory and an API on loopback: what serves must not be left stopped."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from syntra.agent.config.settings import NetworkingSettings, Settings
from syntra.agent.proxy.container import ProxyContainer
from syntra.agent.proxy.setup import ProxySetup
from syntra.model.image import ImageRef
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.parsing import container_details
from syntra.runtime.docker.proxy_body import WantedProxy, create_body
from syntra.runtime.docker.proxy_containers import ProxyContainers
from syntra.runtime.docker.records import ContainerDetails

DEADLINE_SECS = 20.0


class Engine(ProxyContainers):
    """Containers of the proxy in memory; a stop waits until `stopped` is set."""

    def __init__(self) -> None:
        super().__init__(EngineClient(Endpoint(path="/nowhere")), owner="0123456789ab")
        self.all: dict[str, dict[str, Any]] = {}
        self.stopping = asyncio.Event()
        self.stopped = asyncio.Event()

    async def found(self) -> list[ContainerDetails]:
        return [container_details(raw) for raw in self.all.values()]

    async def inspect(self, container_id: str) -> ContainerDetails | None:
        raw = self.all.get(container_id)
        return None if raw is None else container_details(raw)

    async def has_image(self, image: ImageRef) -> bool:
        return True

    async def create(self, wanted: WantedProxy) -> str:
        body: dict[str, Any] = create_body(wanted, "json-file", instance="5a")
        container_id = str(len(self.all) + 1)
        config = {key: body[key] for key in ("Image", "Cmd", "Labels")}
        state = {"Status": "created", "Running": False}
        self.all[container_id] = {"Id": container_id, "Name": f"proxy-{container_id}", "Config": config, "State": state}
        return container_id

    async def start(self, container_id: str) -> None:
        self.all[container_id]["State"] = {"Status": "running", "Running": True}

    async def stop(self, container_id: str) -> None:
        self.stopping.set()
        try:
            await self.stopped.wait()
        finally:
            # The engine goes on with a stop that nobody waits for any more.
            self.all[container_id]["State"] = {"Status": "exited", "Running": False}

    async def remove(self, container_id: str) -> None:
        self.all.pop(container_id, None)

    async def publisher_of(self, host: str, port: int) -> str | None:
        return None

    @property
    def running(self) -> list[str]:
        return [container_id for container_id, raw in self.all.items() if raw["State"]["Running"]]


class Routes:
    async def write(self) -> None:
        return

    async def applied(self) -> bool:
        return True

    async def wait_applied(self, secs: float) -> bool:
        return True

    async def complaints(self) -> tuple[str, ...]:
        return ()


@contextlib.asynccontextmanager
async def api_of(engine: Engine) -> AsyncIterator[str]:
    """What a running proxy answers; nothing while none runs."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if engine.running:
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{"Version":"3.7.13"}')
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def quiet(_: str) -> None:
    return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_an_agent_that_stops_in_the_middle_of_a_change_leaves_no_proxy_stopped(tmp_path: Path) -> None:
    engine = Engine()
    async with asyncio.timeout(DEADLINE_SECS), api_of(engine) as api:

        def made_of(image: str) -> ProxySetup:
            networking = NetworkingSettings(
                traefik_api=api,
                cert_resolver="",
                entrypoints=("web",),
                proxy_listen=(f"web=127.0.0.1:{port}",),
                proxy_image=image,
            )
            settings = Settings(data_dir=tmp_path, networking=networking)
            return ProxySetup(settings=settings, owner=engine.owner)

        port = free_port()
        old = await engine.create(made_of("traefik:v3.7.12").wanted())
        await engine.start(old)
        proxy = ProxyContainer(made_of("traefik:v3.7.13"), engine, Routes())
        async with asyncio.TaskGroup() as group:
            change = group.create_task(proxy.up(quiet))
            await engine.stopping.wait()
            change.cancel()
            await asyncio.sleep(0)
            engine.stopped.set()
        assert change.cancelled()
        assert len(engine.running) == 1
