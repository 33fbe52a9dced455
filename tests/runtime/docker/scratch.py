"""Containers that exist for one test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.endpoint import Endpoint


@dataclass(frozen=True)
class Scratch:
    """A client with a container of one test."""

    client: EngineClient
    containers: Containers
    id: str
    name: str


def fresh_name() -> str:
    return f"syntra-test-{secrets.token_hex(6)}"


@asynccontextmanager
async def container(
    endpoint: Endpoint, image: str, argv: Sequence[str], *, start: bool = True, **body: object
) -> AsyncIterator[Scratch]:
    """Create a container (and start it), remove it at the end. Without a network unless asked: that is slower."""
    host = {"NetworkMode": "none"}
    given = body.pop("HostConfig", {})
    assert isinstance(given, Mapping)
    document = {"Image": image, "Cmd": list(argv), "HostConfig": {**host, **given}, **body}
    async with EngineClient(endpoint) as client:
        containers = Containers(client)
        name = fresh_name()
        id_ = await containers.create(name, document)
        try:
            if start:
                await containers.start(id_)
            yield Scratch(client, containers, id_, name)
        finally:
            await containers.remove(id_, force=True)
