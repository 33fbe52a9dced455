"""Routes over a fake engine whose containers have addresses, and a real file for a proxy that is not there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from syntra.agent.changes import Changes
from syntra.agent.proxy.routes import ProxyRoutes
from syntra.agent.traffic.endpoints import NamedService
from syntra.agent.traffic.switch import TrafficSettings, TrafficSwitch
from syntra.model.container import Container, ContainerState
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment
from syntra.networking.file_writer import FileWriter
from syntra.networking.proxy import ProxyObserver
from syntra.networking.traefik import ProxySettings
from tests.agent.fake_engine import FakeEngine
from tests.agent.fake_readiness import FakeReadiness
from tests.agent.journal.opened import Opened
from tests.agent.journal.samples import committed
from tests.model.samples import deployment

PROXY = ProxySettings(entrypoints=("web",), cert_resolver="", https_redirect_entrypoint="")
# A port that nothing listens on: the discard service's.
NOBODY = "http://127.0.0.1:9"


def routed() -> Deployment:
    base = deployment()
    spec = dataclasses.replace(base.spec, domains=("web.example.com",), port=8080)
    return dataclasses.replace(base, spec=spec)


class Addressed(FakeEngine):
    """A fake engine whose running containers have an address."""

    async def observe(self, service_id: ServiceId | None = None) -> list[Container]:
        return [self._with_address(replica) for replica in await super().observe(service_id)]

    async def inspect(self, container_id: ContainerId) -> Container | None:
        found = await super().inspect(container_id)
        return self._with_address(found) if found else None

    def _with_address(self, replica: Container) -> Container:
        number = sorted(self.containers).index(replica.container_id) + 2
        up = replica.state is ContainerState.RUNNING
        return dataclasses.replace(replica, addresses={"net": f"172.30.0.{number}" if up else ""})


class Stale(Addressed):
    """A fake engine whose list is older than the last start."""

    stale: frozenset[ContainerId] = frozenset()

    async def observe(self, service_id: ServiceId | None = None) -> list[Container]:
        return [
            dataclasses.replace(replica, state=ContainerState.CREATED, addresses={})
            if replica.container_id in self.stale
            else replica
            for replica in await super().observe(service_id)
        ]


class Unseen(Addressed):
    """A fake engine into whose containers nobody can look: each is drained for the whole time."""

    async def inspect(self, container_id: ContainerId) -> Container | None:
        found = await super().inspect(container_id)
        return dataclasses.replace(found, pid=0) if found else None


class SeenNames:
    """Names that keep what they were told."""

    answers = True

    problems: Sequence[str] = ()

    def __init__(self) -> None:
        self.shown: list[NamedService] | None = None

    async def prepare(self, project: str) -> None:
        return

    def show(self, services: Iterable[NamedService]) -> None:
        self.shown = [*services]

    def see(self, replicas: Sequence[Container]) -> None:
        return

    async def refresh(self, projects: frozenset[str]) -> None:
        return

    async def until_forgotten(self, addresses: Iterable[str]) -> None:
        return


class Rig:
    def __init__(self, folder: Path, journal: Opened) -> None:
        self.adapter = Addressed(registry=("nginx:1",))
        self.readiness = FakeReadiness()
        self.changes = Changes()
        self.adapter.tell(self.changes.announce)
        self.busy: set[ServiceId] = set()
        self.held: set[ServiceId] = set()
        self.folder = folder
        self.journal = journal
        self.traffic = self.again()

    def again(self) -> TrafficSwitch:
        return self.switch(
            drain_secs=1, is_busy=lambda service_id: service_id in self.busy, is_held=lambda of: of in self.held
        )

    def slow(self, secs: float, *, drain_secs: float = 0) -> TrafficSwitch:
        """A switch whose proxy is waited for so long after each change."""
        return self.switch(secs, drain_secs=drain_secs, is_busy=lambda _: True)

    def switch(
        self,
        unobserved_secs: float = 0,
        *,
        drain_secs: float,
        is_busy: Callable[[ServiceId], bool],
        is_held: Callable[[ServiceId], bool] = lambda _: False,
    ) -> TrafficSwitch:
        return TrafficSwitch(
            TrafficSettings(drain_secs=drain_secs, state_dir=self.folder),
            proxy=ProxyRoutes(
                PROXY,
                writer=FileWriter(self.folder / "dynamic"),
                observer=ProxyObserver(NOBODY, PROXY),
                unobserved_secs=unobserved_secs,
            ),
            engine=self.adapter,
            changes=self.changes,
            journal=self.journal.journal,
            is_busy=is_busy,
            is_held=is_held,
            readiness=self.readiness,
        )

    async def replica(self, of: Deployment, index: int) -> ContainerId:
        container_id, _ = await self.adapter.create(of, index)
        await self.adapter.start(container_id)
        return container_id

    def _http(self) -> dict[str, Any]:
        text = (self.folder / "dynamic" / "syntra.yml").read_text()
        http: dict[str, Any] = json.loads("\n".join(n for n in text.splitlines() if not n.startswith("#")))["http"]
        return http

    def weights(self) -> dict[str, int]:
        weighted = [s["weighted"]["services"] for s in self._http()["services"].values() if "weighted" in s]
        return {child["name"].partition("~")[2]: child["weight"] for children in weighted for child in children}

    def domains(self) -> list[str]:
        return [name.partition("~")[2] for name in self._http().get("routers", {})]

    def servers(self) -> list[str]:
        services = self._http().get("services", {})
        found = [s["loadBalancer"]["servers"] for s in services.values() if "loadBalancer" in s]
        return sorted(server["url"] for servers in found for server in servers)


async def deployed(rig: Rig, of: Deployment, replicas: int) -> list[ContainerId]:
    await rig.traffic.start()
    await rig.adapter.obtain_image(of, None, lambda *_: None)
    made = [await rig.replica(of, index) for index in range(1, replicas + 1)]
    await committed(rig.journal, "r1", of, replicas=replicas)
    return made
