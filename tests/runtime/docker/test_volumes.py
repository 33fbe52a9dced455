"""Volumes on a real engine."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import DockerError
from syntra.runtime.docker.identity import Identity
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.paths import path
from syntra.runtime.docker.volumes import Volumes
from tests.runtime.docker.scratch import fresh_name


async def test_a_volume_is_made_once_and_keeps_its_first_labels(endpoint: Endpoint) -> None:
    async with EngineClient(endpoint) as client:
        volumes, name = Volumes(client, Identity(Images(client))), fresh_name()
        assert await volumes.inspect(name) is None
        try:
            made = await volumes.ensure(name, {"syntra.test": name})
            assert (made.name, made.driver, made.labels) == (name, "local", {"syntra.test": name})
            assert made.mountpoint.startswith("/")
            again = await volumes.ensure(name, {"syntra.test": "other"})
            assert again.labels == {"syntra.test": name}
            assert await volumes.inspect(name) == again
            assert [volume.name for volume in await volumes.list(labels={"syntra.test": name})] == [name]
            assert name in [volume.name for volume in await volumes.list()]
            with pytest.raises(DockerError, match="is not a name"):
                await volumes.ensure("", {})
        finally:
            await client.request("DELETE", path("volumes", name))
