"""Decides how a project's containers resolve each other's names: DNS settings, and whether they get engine aliases."""

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
"""From a project and its network's gateway to the DNS settings of a container; None: only the engine resolves."""


def engine_only(project: str, gateway: str) -> ContainerDns | None:
    """Only the engine resolves names, in every project."""
    return None


class Naming:
    """Decides for each new container."""

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
        """The container's DNS settings, and whether it gets aliases.

        An alias would hide the agent's answers, so there are none where the agent answers. The exception: a container
        that stays and only asks the engine would not find the new one at all.
        """
        dns = self._container_dns(deployment.spec.project_name, network.gateway)
        if dns is None:
            return None, self._with_aliases
        return dns, await self._peers_ask_the_engine(deployment)

    async def networks(self, projects: frozenset[str]) -> list[ProjectNetwork]:
        """The existing networks of these projects, sorted by project."""
        by_name = {body.network_name(project): project for project in projects}
        found = [project_network(network, by_name[network.name]) for network in await self._networks.named(by_name)]
        return sorted(found, key=lambda network: network.project)

    async def _peers_ask_the_engine(self, deployment: Deployment) -> bool:
        spec = deployment.spec
        labels = {body.MANAGED: "true", body.PROJECT: spec.project_name}
        for item in await self._containers.list(labels=labels, all=False):
            # The service's containers of other deployments are about to be replaced.
            is_replaced = (
                item.labels.get(body.SERVICE) == spec.service_id
                and item.labels.get(body.DEPLOYMENT) != deployment.deployment_id
            )
            asks = item.labels.get(body.NAMES, _ENGINE) == _ENGINE
            if asks and not is_replaced and await self._identity.is_ours(item):
                return True
        return False


def project_network(details: NetworkDetails, project: str) -> ProjectNetwork:
    """Convert the engine's network data. Skips pools without a gateway, as the host has no address there."""
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
