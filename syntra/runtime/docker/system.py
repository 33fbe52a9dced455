"""The engine itself: version and host (Engine API, "System")."""

from __future__ import annotations

from dataclasses import replace

from syntra.runtime.docker import parsing
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.product import Product, podman_log_driver
from syntra.runtime.docker.records import EngineInfo
from syntra.runtime.docker.versions import dotted


class System:
    """The calls about the engine as a whole."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def info(self) -> EngineInfo:
        response = await self._client.request("GET", "/info")
        found = parsing.engine_info(response.json(), api_version=dotted(self._client.engine_api_version))
        if await self._client.product() is Product.PODMAN:
            return replace(found, logging_driver=podman_log_driver(found.logging_driver))
        return found
