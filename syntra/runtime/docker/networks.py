"""Networks: inspect, ensure, connect, remove (Engine API, "Networks")."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from syntra.runtime.docker import fields, parsing
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import Conflict, DockerError, EngineError, NotFound
from syntra.runtime.docker.paths import label_filter, path
from syntra.runtime.docker.product import Product, podman_network_options
from syntra.runtime.docker.records import NetworkDetails

_IN_USE = "network is being used"
"""Podman's words, which come with 500."""
_INTERFACE_GONE = "no such network interface"
"""Podman's words, with 500, when an interface disappears while it reads the list of all: nothing was created."""
CREATE_TIMES = 4
PAUSE_SECS = 0.2


class Networks:
    """The network calls of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._creating = asyncio.Lock()

    async def inspect(self, name: str) -> NetworkDetails | None:
        """Find by full name or id; None when it does not exist. Of several with the same name, the oldest.

        The engine also accepts id prefixes as names; this method does not.
        """
        found = await self._oldest(name)
        reference = found.id if found is not None else name
        try:
            response = await self._client.request("GET", path("networks", reference))
        except NotFound:
            return None
        details = parsing.network_details(response.json())
        return details if name in (details.id, details.name) else None

    async def list(self, *, labels: Mapping[str, str | None]) -> list[NetworkDetails]:
        """Networks with all these labels, without their containers."""
        return [*await self._list({"label": label_filter(labels)})]

    async def named(self, names: Iterable[str]) -> Sequence[NetworkDetails]:
        """The networks with exactly these names, without containers; of several with the same name, the oldest."""
        wanted = sorted(set(names))
        found = await self._list({"name": wanted}) if wanted else ()
        oldest: dict[str, NetworkDetails] = {}
        for network in sorted(found, key=lambda network: (network.created, network.id)):
            oldest.setdefault(network.name, network)
        return [oldest[name] for name in wanted if name in oldest]

    async def ensure(self, name: str, labels: Mapping[str, str], *, driver: str = "bridge") -> NetworkDetails:
        """The network of that name, created when missing, without its containers. Safe to call concurrently.

        Labels and driver of an existing network do not change. Before API 1.44, concurrent calls can create two
        networks of one name. Callers of one object take turns; against other programs, a later network of our own is
        removed, so both mostly use the oldest. (A network appears when it is complete, with the time at which its
        creation began.)
        """
        return await self._oldest(name) or await self._create(name, labels, driver)

    async def _create(self, name: str, labels: Mapping[str, str], driver: str) -> NetworkDetails:
        body: dict[str, object] = {"Name": name, "Driver": driver, "Labels": dict(labels)}
        async with self._creating:
            found = await self._oldest(name)
            if found is not None:
                return found
            if self._client.api_version < (1, 44):
                body["CheckDuplicate"] = True  # later engines always check and do not know the field
            if await self._client.product() is Product.PODMAN and driver == "bridge":
                body["Options"] = podman_network_options(name)
            created = ""
            with suppress(Conflict):  # another client was faster; its network is used below
                created = await self._created(body)
            found = await self._oldest(name)
            if found is None:
                raise DockerError(f"cannot create network {name}: it was removed at the same time; try again")
            if created and found.id != created:
                await self.remove(created)
            return found

    async def _created(self, body: Mapping[str, object]) -> str:
        """The id of a new network."""
        for left in reversed(range(CREATE_TIMES)):
            try:
                response = await self._client.request("POST", "/networks/create", body=body)
                return fields.text(response.json(), "Id")
            except EngineError as exc:
                # Networks and containers of others come and go all the time on a busy machine.
                if not left or exc.status != 500 or _INTERFACE_GONE not in exc.message:
                    raise
            await asyncio.sleep(PAUSE_SECS)
        raise AssertionError("cannot happen: the last attempt returns or raises")

    async def connect(self, network: str, container: str, *, aliases: Sequence[str] = ()) -> bool:
        """Attach a container, running or not, with DNS aliases. False when it is already attached."""
        body = {"Container": container, "EndpointConfig": {"Aliases": list(aliases)}}
        try:
            await self._client.request("POST", path("networks", network, "connect"), body=body)
        except EngineError as exc:
            if exc.status == 403 and "already exists" in exc.message:
                return False
            raise
        return True

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> bool:
        """Detach a container. False when it is not attached, or when one of the two does not exist."""
        body = {"Container": container, "Force": force}
        try:
            await self._client.request("POST", path("networks", network, "disconnect"), body=body)
        except NotFound:
            return False
        except EngineError as exc:
            if "is not connected" in exc.message:  # 500 on Docker 20.10, 403 on others
                return False
            raise
        return True

    async def remove(self, reference: str) -> bool:
        """True when it is removed or does not exist; False when containers are attached."""
        try:
            await self._client.request("DELETE", path("networks", reference))
        except NotFound:
            return True
        except EngineError as exc:
            if exc.status in (403, 409, 500) and ("active endpoints" in exc.message or _IN_USE in exc.message):
                return False
            raise
        return True

    async def _oldest(self, name: str) -> NetworkDetails | None:
        """The oldest network of exactly this name: the engine's filter also matches parts of names."""
        return next(iter(await self.named([name])), None)

    async def _list(self, filters: Mapping[str, object]) -> Sequence[NetworkDetails]:
        response = await self._client.request("GET", "/networks", query={"filters": filters})
        return [parsing.network_details(row) for row in fields.array({"rows": response.json()}, "rows")]
