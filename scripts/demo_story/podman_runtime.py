"""The demo on Podman, with a service and a store of the demo's own."""

from __future__ import annotations

import http.client
from collections.abc import Mapping

from scripts.demo_story.docker_runtime import DockerRuntime
from scripts.demo_story.engine import Engine
from scripts.demo_story.errors import StoryFailed
from scripts.demo_story.names import Names
from scripts.demo_story.processes import Processes
from tests.podman import PodmanStore, podman_problem


class PodmanRuntime(DockerRuntime):
    """Speaks Docker's API to Podman's service."""

    name = "podman"

    def __init__(self, names: Names, processes: Processes) -> None:
        self._store = PodmanStore(processes.path("podman"))
        super().__init__(names, processes, Engine(str(self._store.socket)))

    def publish(self, broken: Mapping[str, bool]) -> str:
        """Start the service, then push the versions to a registry."""
        if reason := podman_problem():
            raise StoryFailed(reason)
        self._store.write_settings()
        self._processes.start("podman-service", self._store.service, self._store.environment)
        self._processes.await_from("podman-service", self._answers, "it answers")
        return super().publish(broken)

    def agent_settings(self, otlp_http_port: int) -> str:
        """As on Docker, but Podman's own resolver has port 53 of every network."""
        return f'{super().agent_settings(otlp_http_port)}dns.mode = "docker-alias"\n'

    def clear(self) -> None:
        """As on Docker, and the service and its store."""
        if self._processes.find("podman-service") is not None:
            super().clear()
            self._store.run("system", "reset", "--force")
            self._processes.end("podman-service")
        self._processes.end("proxy")
        self._processes.end("registry")
        self._store.remove()

    def _answers(self) -> bool:
        try:
            self._engine.networks(self._names.project)
        except (OSError, http.client.HTTPException, StoryFailed):
            return False
        return True
