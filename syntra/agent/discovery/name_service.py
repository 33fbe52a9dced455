"""Service discovery: where the DNS server listens, what it answers, and which resolvers containers get.

The server listens on the gateways of the agent's own projects' networks and nowhere else; a gateway is an address of
the host. Where that fails, or a firewall blocks the containers, the engine's aliases are used and `problems` says so.
Only `build_name_service` imports the message codec.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from syntra.agent.config.settings import DnsSettings
from syntra.agent.discovery.reachability import Place, ReachabilityTests, Reaches
from syntra.agent.traffic.endpoints import NamedService
from syntra.model.container import Container, NameSource
from syntra.model.ids import ServiceId
from syntra.model.network import Address, ContainerDns, ProjectNetwork
from syntra.networking.dns import resolv_conf, self_test, zone
from syntra.networking.dns.given import USE_SECS
from syntra.networking.dns.settings import DnsSettings as ServerLimits
from syntra.networking.dns.upstream import Upstream, parse_upstream
from syntra.runtime.containers.engine import Networks
from syntra.runtime.errors import RuntimeFailure

if TYPE_CHECKING:
    from syntra.networking.dns.server import NameServer

log = logging.getLogger(__name__)

_FILE_BYTES = 65_536


class NameService:
    """One per agent, on the event loop only; its tasks run in the given group. Its failures fail no operation."""

    answers = True

    def __init__(
        self,
        settings: DnsSettings,
        engine: Networks,
        server: NameServer,
        *,
        group: asyncio.TaskGroup,
        reaches: Reaches = self_test.reaches,
        host_files: Sequence[str] = (resolv_conf.HOST_FILE, resolv_conf.RESOLVED_FILE),
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._server = server
        self._host_files = host_files
        self._host_texts: tuple[str, ...] = ()
        self._networks: dict[str, ProjectNetwork] = {}
        # Projects that were prepared and that no `refresh` has included yet.
        self._prepared: set[str] = set()
        self._services: tuple[NamedService, ...] | None = None
        self._replicas: Sequence[Container] = ()
        self._unbound: dict[Address, str] = {}
        self._tests = ReachabilityTests(group, reaches)
        self._changing = asyncio.Lock()
        self._is_closed = False

    @property
    def problems(self) -> tuple[str, ...]:
        """Why names do not resolve as they should, and what to do about it; one sentence each."""
        sentences = []
        working = []
        for place in self._places():
            project, failure = place.network.project, self._unbound.get(place.gateway)
            if failure is not None:
                sentences.append(f"the engine answers DNS for project {project}: {failure}")
            elif self._tests.is_blocked(place):
                sentences.append(
                    f"the engine answers DNS for project {project}: its containers get no answer at "
                    f"{place.gateway} port 53, as a firewall seems to drop what they ask; "
                    f"run `ufw allow in on {place.network.bridge} to any port 53`"
                )
            else:
                working.append(place.network)
        called = {named.spec.service_id: named.spec.service_name for named in self._services or ()}
        return (*sentences, *stale_services(working, self._replicas, called))

    async def prepare(self, project: str) -> None:
        """Listen on the project's network, which exists now. Without an engine nothing changes."""
        async with self._changing:
            found = await self._list_networks(frozenset({project}))
            if found is None:
                return
            self._prepared.add(project)
            self._networks.pop(project, None)
            await self._listen_on({**self._networks, **found})

    def show(self, services: Iterable[NamedService]) -> None:
        """Replace the services that the server answers for."""
        self._services = tuple(services)
        self._publish()

    def see(self, replicas: Sequence[Container]) -> None:
        """Replace the list of the agent's containers, for `problems`, and test from them that they reach the server."""
        self._replicas = replicas
        if not self._is_closed:
            self._tests.begin(self._places(), self._server.endpoints, replicas)

    async def refresh(self, projects: frozenset[str]) -> None:
        """List the networks of these projects: listen on new and recreated ones, and on no others.

        A prepared project that is not yet among these keeps its network. Without an engine nothing changes.
        """
        async with self._changing:
            self._prepared -= projects
            found = await self._list_networks(projects | self._prepared)
            if found is None:
                return
            self._prepared &= found.keys()
            await self._listen_on(found)

    async def until_forgotten(self, addresses: Iterable[str]) -> None:
        """Return when no client can still cache an answer with one of these addresses, which `show` has removed.

        Returns at once when none was given out within the TTL, else after at most the TTL and `USE_SECS`.
        """
        last = self._server.last_given([ipaddress.ip_address(address) for address in addresses])
        if last is not None:
            left = last + self._settings.ttl + USE_SECS - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, left))

    def container_dns(self, project: str, gateway: str) -> ContainerDns | None:
        """The resolvers for a new container on that network; None when the server is not reachable from there."""
        place = next((p for p in self._places() if (p.network.project, str(p.gateway)) == (project, gateway)), None)
        if place is None or place.gateway not in self._server.endpoints or self._tests.is_blocked(place):
            return None
        return resolv_conf.container_dns(
            gateway=gateway, project=project, host_files=self._host_texts, configured=self._settings.upstreams
        )

    def close(self) -> None:
        """Stop answering."""
        self._is_closed = True
        self._tests.close()
        self._server.close()

    def _places(self) -> Iterable[Place]:
        # Containers get the IPv4 gateway: the engine's resolver uses IPv4 wherever it has both.
        for network in self._networks.values():
            for gateway in network.gateways:
                if gateway.version == 4:
                    yield Place(network=network, gateway=gateway)

    async def _list_networks(self, projects: frozenset[str]) -> dict[str, ProjectNetwork] | None:
        if self._is_closed:
            return None
        try:
            return {network.project: network for network in await self._engine.networks(projects)}
        except RuntimeFailure as later:
            log.info("networks are unchanged for now", extra={"reason": str(later)})
            return None

    async def _listen_on(self, networks: dict[str, ProjectNetwork]) -> None:
        self._networks = networks
        self._tests.keep_only(self._places())
        self._host_texts = await asyncio.to_thread(_texts, self._host_files)
        # Publish before listening: an early query must not come from an unknown network.
        self._publish()
        failures = await self._server.listen(gateway for network in networks.values() for gateway in network.gateways)
        unbound = {ipaddress.ip_address(failure.address): str(failure) for failure in failures}
        for address, sentence in unbound.items():
            if address not in self._unbound:
                log.warning("cannot serve DNS", extra={"address": str(address), "reason": sentence})
        self._unbound = unbound

    def _publish(self) -> None:
        networks = {subnet: network.project for network in self._networks.values() for subnet in network.subnets}
        services = None if self._services is None else [_service(named) for named in self._services]
        self._server.publish(zone.build(networks, services, ttl=self._settings.ttl))


def build_name_service(settings: DnsSettings, engine: Networks, group: asyncio.TaskGroup) -> NameService:
    """Build the service with its DNS server. Imports the message codec, which is slow."""
    from syntra.networking.dns.forward import Forwarder, HostUpstreams
    from syntra.networking.dns.server import NameServer

    limits = ServerLimits(port=settings.port)
    configured = [parse_upstream(text) for text in settings.upstreams]
    upstreams: Callable[[], Sequence[Upstream]] = (lambda: configured) if configured else HostUpstreams()
    forwarder = Forwarder(upstreams, rng=random.SystemRandom(), timeout_secs=limits.forward_secs)
    server = NameServer(group, limits, forwarder, rng=random.Random())
    return NameService(settings, engine, server, group=group)


def _service(named: NamedService) -> zone.Service:
    spec = named.spec
    return zone.Service(
        project=spec.project_name,
        name=spec.service_name,
        hostname=spec.internal_hostname,
        ports=() if spec.port is None else (spec.port,),
        replicas=tuple(
            zone.Replica(label=str(index), addresses=(ipaddress.ip_address(address),)) for index, address in named.ready
        ),
    )


def _texts(paths: Sequence[str]) -> tuple[str, ...]:
    """The beginning of each file that exists."""
    texts = []
    for path in paths:
        try:
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                texts.append(file.read(_FILE_BYTES))
        except OSError as exc:
            log.debug("resolvers cannot be read", extra={"path": path, "reason": exc.strerror})
    return tuple(texts)


def stale_services(
    networks: Iterable[ProjectNetwork], replicas: Sequence[Container], called: Mapping[ServiceId, str]
) -> list[str]:
    """One sentence for each project whose containers need a new deploy; `called` maps services to their names.

    Containers that do not use the agent's DNS come first: while they exist, the others need aliases.
    """
    found = []
    for network in networks:
        here = [replica for replica in replicas if replica.is_up and network.name in replica.addresses]
        project = f"project {network.project}"
        if names := _services(here, NameSource.ENGINE, called):
            found.append(
                f"deploy {names} of {project} again: they were created before the agent answered DNS, and do not use it"
            )
        elif names := _services(here, NameSource.BOTH, called):
            found.append(
                f"deploy {names} of {project} again: they still have engine aliases, which also resolve to "
                "replicas that are not ready"
            )
    return found


def _services(replicas: Iterable[Container], source: NameSource, called: Mapping[ServiceId, str]) -> str:
    ids = {replica.service_id for replica in replicas if replica.names is source}
    return ", ".join(sorted(called.get(service_id, service_id) for service_id in ids))
