"""Volumes: ensure, inspect, list (Engine API, "Volumes"). They are never removed: volumes are the user's data."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.runtime.docker import fields, parsing
from syntra.runtime.docker.client import DEADLINE_SECS, EngineClient
from syntra.runtime.docker.errors import NotFound
from syntra.runtime.docker.paths import label_filter, path
from syntra.runtime.docker.records import VolumeDetails


class Volumes:
    """The volume calls of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def ensure(self, name: str, labels: Mapping[str, str]) -> VolumeDetails:
        """The volume of that name, created when missing.

        The engine ignores `labels` for an existing volume: check the returned labels for its owner.
        """
        if not name:
            path("volumes", name)  # without a name the engine creates an anonymous volume
        body = {"Name": name, "Labels": dict(labels)}
        response = await self._client.request("POST", "/volumes/create", body=body, deadline=2 * DEADLINE_SECS)
        return parsing.volume_details(response.json())

    async def inspect(self, name: str) -> VolumeDetails | None:
        """Inspect it; None when it does not exist."""
        try:
            response = await self._client.request("GET", path("volumes", name))
        except NotFound:
            return None
        return parsing.volume_details(response.json())

    async def list(self, *, labels: Mapping[str, str | None] | None = None) -> list[VolumeDetails]:
        """Volumes with all these labels."""
        query = {"filters": {"label": label_filter(labels or {})}}
        response = await self._client.request("GET", "/volumes", query=query)
        return [parsing.volume_details(row) for row in fields.array(response.json(), "Volumes")]
