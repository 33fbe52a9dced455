"""Observes the running proxy: whether it uses a route table, and which errors it reports about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from syntra.networking.api_client import ApiClient
from syntra.networking.errors import ProxyUnreachable
from syntra.networking.routes import RouteTable
from syntra.networking.traefik import (
    GENERATION,
    GENERATION_HEADER,
    ProxySettings,
    ServedCertificate,
    configuration,
    generation,
)

FIRST_WAIT_SECS = 0.02
LONGEST_WAIT_SECS = 0.2


class ProxyObserver:
    """Compares route tables with the file provider's state in Traefik's API. Holds no connection and no state."""

    def __init__(
        self,
        api_url: str,
        proxy: ProxySettings,
        certificates: Callable[[], Sequence[ServedCertificate]] = tuple,
    ) -> None:
        """`certificates` returns the certificates that are written with the table."""
        self._api = ApiClient(api_url)
        self._proxy = proxy
        self._certificates = certificates

    async def applied(self, table: RouteTable) -> bool:
        """Whether the proxy uses exactly this table: its generation, and every server, weight and router.

        A router that the proxy rejects (for an unknown entrypoint, say) counts as applied, as waiting would not change
        it; `problems` reports it. Raises ProxyUnreachable. Safe to cancel.
        """
        return await self._works_with(configuration(table, self._proxy, self._certificates()))

    async def wait_applied(self, table: RouteTable, seconds: float) -> bool:
        """Poll `applied` every 20 ms, later every 200 ms, until it is true; False when `seconds` are over.

        A proxy that is down may come back meanwhile; if it is down at the end, ProxyUnreachable is raised. `applied`
        must be true twice: Traefik passes a new configuration to its entrypoints one after another, and the API's own
        may be the first. Safe to cancel.
        """
        loop = asyncio.get_running_loop()
        wanted = configuration(table, self._proxy, self._certificates())
        deadline = loop.time() + seconds
        wait = FIRST_WAIT_SECS
        seen = 0
        while True:
            away: ProxyUnreachable | None = None
            try:
                seen = seen + 1 if await self._works_with(wanted) else 0
            except ProxyUnreachable as exc:
                seen, away = 0, exc
            if seen == 2:
                return True
            left = deadline - loop.time()
            if left <= 0:
                if away is not None:
                    raise away
                return False
            await asyncio.sleep(min(FIRST_WAIT_SECS if seen else wait, left))
            wait = min(wait * 1.5, LONGEST_WAIT_SECS)

    async def problems(self, table: RouteTable) -> tuple[str, ...]:
        """The proxy's errors about this table, as sentences for people; empty when there are none.

        Reports nothing about a table that is not applied yet, but does report conflicts with another file in the
        directory. Raises ProxyUnreachable. Safe to cancel.
        """
        wanted = configuration(table, self._proxy, self._certificates())
        if await self._generation() != generation(wanted):
            return ()
        raw = await self._raw()
        return (*_differences(wanted, raw), *_complaints(wanted, raw))

    async def _works_with(self, wanted: Mapping[str, object]) -> bool:
        if await self._generation() != generation(wanted):
            return False
        return not _differences(wanted, await self._raw())

    async def _generation(self) -> str | None:
        found = await self._api.get(f"/api/http/middlewares/{GENERATION}@file")
        value = _at(found, "headers", "customResponseHeaders", GENERATION_HEADER)
        return value if isinstance(value, str) else None

    async def _raw(self) -> Mapping[str, object]:
        found = await self._api.get("/api/rawdata")
        if not isinstance(found, Mapping):
            raise ProxyUnreachable(
                "cannot ask the proxy: its /api/rawdata holds no object; check networking.traefik_api"
            )
        return found


def _differences(wanted: Mapping[str, object], raw: Mapping[str, object]) -> list[str]:
    """Routers and services that differ or are missing in the proxy, or are the agent's and should not exist."""
    found = []
    for section, described in (("routers", _router), ("services", _service)):
        there = _mapping(_at(raw, section))
        ours = {f"{name}@file": entry for name, entry in _mapping(_at(wanted, "http", section)).items()}
        for name, entry in ours.items():
            if name not in there:
                found.append(f"the proxy has no {section[:-1]} {name}")
            elif described(there[name]) != described(entry):
                found.append(f"the proxy's {section[:-1]} {name} is another; a second file may hold one of that name")
        found += [
            f"the proxy still has {section[:-1]} {name}"
            for name in there
            if name.startswith("syn-") and name.endswith("@file") and name not in ours
        ]
    return found


def _complaints(wanted: Mapping[str, object], raw: Mapping[str, object]) -> list[str]:
    found = []
    for section in ("routers", "services", "middlewares"):
        there = _mapping(_at(raw, section))
        for name in _mapping(_at(wanted, "http", section)):
            errors = _at(there.get(f"{name}@file"), "error")
            if isinstance(errors, list) and errors:
                said = "; ".join(str(error)[:200] for error in errors[:3])
                found.append(f"the proxy refuses {section[:-1]} {name}: {said}")
    return found


def _router(entry: object) -> object:
    return tuple(_at(entry, key) for key in ("rule", "priority", "service"))


def _service(entry: object) -> object:
    servers = _at(entry, "loadBalancer", "servers")
    children = _at(entry, "weighted", "services")
    return (
        sorted(str(_at(server, "url")) for server in servers) if isinstance(servers, list) else [],
        sorted((str(_at(child, "name")), _at(child, "weight")) for child in children)
        if isinstance(children, list)
        else [],
    )


def _at(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
