"""How the containers of a project find each other by name: whom a new one asks, and whether the engine answers too."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from syntra.model.container import NameSource
from syntra.model.network import ContainerDns, ProjectNetwork
from syntra.model.spec import Deployment
from syntra.runtime.docker import body
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.identity import Identity
from syntra.runtime.docker.networks import Networks
from syntra.runtime.docker.records import NetworkDetails

_ENGINE = NameSource.ENGINE.value

ContainerDnsOf = Callable[[str, str], ContainerDns | None]
"""From a project and its network's gateway to what a container is told; None: nobody but the engine answers there."""


def nobody(project: str, gateway: str) -> ContainerDns | None:
    """The engine alone answers, everywhere."""
    return None


class Naming:
    """Decides for each container that is about to be created."""

    def __init__(
        self,
        containers: Containers,
        networks: Networks,
        identity: Identity,
        container_dns: ContainerDnsOf,
        *,
        with_aliases: bool,
    ) -> None:
        self._containers = containers
        self._networks = networks
        self._identity = identity
        self._container_dns = container_dns
        self._with_aliases = with_aliases

    async def of(self, deployment: Deployment, network: NetworkDetails) -> tuple[ContainerDns | None, bool]:
        """What the container is told, and whether it gets aliases.

        An alias hides what the agent would say of the same name, so there is none where the agent answers, unless a
        container that stays has never heard of the agent: it would not find the new one at all.
        """
        dns = self._container_dns(deployment.spec.project_name, network.gateway)
        if dns is None:
            return None, self._with_aliases
        return dns, await self._someone_asks_the_engine(deployment)

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        """The networks of these projects that exist, sorted by project."""
        by_name = {body.network_name(project): project for project in projects}
        found = [project_network(network, by_name[network.name]) for network in await self._networks.named(by_name)]
        return sorted(found, key=lambda network: network.project)

    async def _someone_asks_the_engine(self, deployment: Deployment) -> bool:
        spec = deployment.spec
        labels = {body.MANAGED: "true", body.PROJECT: spec.project_name}
        for item in await self._containers.list(labels=labels, all=False):
            # The service's own containers of another deployment are about to be replaced.
            is_replaced = (
                item.labels.get(body.SERVICE) == spec.service_id
                and item.labels.get(body.DEPLOYMENT) != deployment.deployment_id
            )
            asks = item.labels.get(body.NAMES, _ENGINE) == _ENGINE
            if asks and not is_replaced and await self._identity.is_ours(item):
                return True
        return False


def project_network(details: NetworkDetails, project: str) -> ProjectNetwork:
    """A project's network of what the engine says. A pool without a gateway has no address of the host's."""
    subnets, gateways = [], []
    for subnet, gateway in details.pools:
        try:
            subnets.append(ipaddress.ip_network(subnet, strict=False))
            gateways.append(ipaddress.ip_address(gateway))
        except ValueError:
            continue
    return ProjectNetwork(
        project=project,
        name=details.name,
        subnets=tuple(subnets),
        gateways=tuple(gateways),
        bridge=details.bridge,
    )
