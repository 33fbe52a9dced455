"""What a real engine says about itself."""

from __future__ import annotations

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.system import System
from syntra.runtime.docker.versions import OLDEST, parse_version


async def test_the_engine_and_its_host_are_described(endpoint: Endpoint) -> None:
    async with EngineClient(endpoint) as client:
        info = await System(client).info()
        version = parse_version(info.api_version)
        assert version is not None
        assert version >= client.api_version >= OLDEST
        assert (info.os, info.cgroup_version in (1, 2), info.ncpu > 0) == ("linux", True, True)
        assert info.mem_total > 64 * 1024 * 1024
        assert info.server_version
        assert info.root_dir.startswith("/")
        assert info.logging_driver
        assert info.arch
        assert info.name
