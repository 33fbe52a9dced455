"""Podman keeps the contracts that Docker keeps, on a service of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import LocalRegistry, cleanup, new_token
from tests.podman import PodmanService, on_podman, podman_service
from tests.runtime.containers.test_engine_contract import TestDockerAdapter as DockerAdapter
from tests.runtime.containers.test_engine_contract import registry
from tests.runtime.test_runtime_contract import TestDocker as DockerRuntime

__all__ = ["on_podman", "podman_service", "registry"]

pytestmark = pytest.mark.engine


@pytest.fixture
def podman_token(on_podman: PodmanService) -> Iterator[str]:
    """As `engine_token`."""
    token = new_token()
    yield token
    cleanup(token)


class TestPodmanAdapter(DockerAdapter):
    """The engine contract."""

    exact_log_times = False

    @pytest.fixture(autouse=True)
    def parts(self, podman_token: str, registry: LocalRegistry, tmp_path: Path) -> None:
        self.token = podman_token
        self.registry = registry
        self.folder = tmp_path


class TestPodmanRuntime(DockerRuntime):
    """The runtime contract."""

    @pytest.fixture(autouse=True)
    def parts(self, podman_token: str, tmp_path: Path) -> None:
        self.token = podman_token
        self.folder = tmp_path
        self.count = 0

    @pytest.mark.soak  # half a minute; the plan is the same for every engine
    async def test_planning_again_after_any_prefix_gives_the_rest(self) -> None:
        await super().test_planning_again_after_any_prefix_gives_the_rest()
