"""Volumes: ensure, inspect, list (Engine API, "Volumes"). They are never removed: volumes are the user's data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

from syntra.model.ids import ContainerId, ServiceId
from syntra.model.volume import Volume, VolumeUser
from syntra.runtime.docker import body, fields, parsing
from syntra.runtime.docker.client import DEADLINE_SECS, EngineClient
from syntra.runtime.docker.errors import Conflict, NotFound, translated
from syntra.runtime.docker.identity import Identity
from syntra.runtime.docker.paths import Query, label_filter, path
from syntra.runtime.docker.records import VolumeDetails
from syntra.runtime.errors import StepFailed


class Volumes:
    """The volume calls of one engine. `identity` tells whose the containers are that mount a volume."""

    def __init__(self, client: EngineClient, identity: Identity) -> None:
        self._client = client
        self._identity = identity

    async def ensure(self, name: str, labels: Mapping[str, str]) -> VolumeDetails:
        """The volume of that name, created when missing.

        The engine ignores `labels` for an existing volume: check the returned labels for its owner.
        """
        if not name:
            path("volumes", name)  # without a name the engine creates an anonymous volume
        wanted = {"Name": name, "Labels": dict(labels)}
        try:
            response = await self._client.request("POST", "/volumes/create", body=wanted, deadline=2 * DEADLINE_SECS)
        except Conflict:
            # Podman refuses the slower of two creations at once.
            response = await self._client.request("GET", path("volumes", name))
        return parsing.volume_details(response.json())

    async def ensure_for(self, name: str, *, project: str = "", service_id: ServiceId | None = None) -> None:
        """As `runtime.containers.engine.Volumes` has it."""
        labels = {body.MANAGED: "true", body.PROJECT: project, body.SERVICE: service_id or ""}
        with translated("VOLUME_FAILED"):
            details = await self.ensure(name, {key: value for key, value in labels.items() if value})
        owner = details.labels.get(body.PROJECT, "")
        if project and owner not in ("", project):
            raise StepFailed(
                "VOLUME_FAILED",
                f"cannot use volume {name}: it was created for project {owner}; use another name, or `external` to "
                "share it",
            )

    async def inspect(self, name: str) -> VolumeDetails | None:
        """Inspect it; None when it does not exist."""
        try:
            response = await self._client.request("GET", path("volumes", name))
        except NotFound:
            return None
        return parsing.volume_details(response.json())

    async def find(self, names: frozenset[str]) -> list[Volume]:
        """As `runtime.containers.engine.Volumes` has it."""
        with translated("VOLUME_FAILED"):
            found = [details for name in sorted(names) if (details := await self.inspect(name)) is not None]
            if not found:
                return []
            query: Query = {"all": True, "filters": {"volume": [details.name for details in found]}}
            response = await self._client.request("GET", "/containers/json", query=query)
            rows = fields.array({"rows": response.json()}, "rows")
            ours = [await self._is_ours(row) for row in rows]
        return [
            Volume(
                name=details.name,
                is_managed=details.labels.get(body.MANAGED) == "true",
                project=details.labels.get(body.PROJECT, ""),
                users=tuple(
                    user
                    for row, is_ours in zip(rows, ours, strict=True)
                    if (user := volume_user(row, details.name, is_ours=is_ours)) is not None
                ),
            )
            for details in found
        ]

    async def _is_ours(self, row: object) -> bool:
        item = parsing.container_summary(row)
        if item.labels.get(body.MANAGED) != "true" or body.SERVICE not in item.labels:
            return False
        return await self._identity.is_ours(item)

    async def list(self, *, labels: Mapping[str, str | None] | None = None) -> list[VolumeDetails]:
        """Volumes with all these labels."""
        query = {"filters": {"label": label_filter(labels or {})}}
        response = await self._client.request("GET", "/volumes", query=query)
        return [parsing.volume_details(row) for row in fields.array(response.json(), "Volumes")]


def volume_user(row: object, name: str, *, is_ours: bool) -> VolumeUser | None:
    """How the container of a row of `GET /containers/json` uses a volume; None when it does not mount it.

    The engine's filter takes the path of a mount for a name too.
    """
    labels = fields.labels(row, "Labels")
    for mount in fields.array(row, "Mounts"):
        if fields.text(mount, "Type") == "volume" and fields.text(mount, "Name") == name:
            return VolumeUser(
                container_id=ContainerId(fields.text(row, "Id")),
                service_id=ServiceId(labels[body.SERVICE]) if is_ours else None,
                service_name=_service_name(labels) if is_ours else "",
                project=labels.get(body.PROJECT, "") if is_ours else "",
                is_writer=fields.flag(mount, "RW"),
            )
    return None


def _service_name(labels: Mapping[str, str]) -> str:
    with suppress(ValueError):
        return fields.text(json.loads(labels.get(body.SPEC, "{}")), "service_name")
    return ""
