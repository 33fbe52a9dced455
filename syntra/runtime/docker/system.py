"""The engine itself: version and host (Engine API, "System")."""

from __future__ import annotations

from syntra.runtime.docker import parsing
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.records import EngineInfo
from syntra.runtime.docker.versions import dotted


class System:
    """The calls about the engine as a whole."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def info(self) -> EngineInfo:
        response = await self._client.request("GET", "/info")
        return parsing.engine_info(response.json(), api_version=dotted(self._client.engine_api_version))
