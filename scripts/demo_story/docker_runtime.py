"""The demo on a Docker engine: a registry on loopback and, where it is installed, Traefik."""

from __future__ import annotations

import http.client
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from scripts.demo_story.engine import Engine
from scripts.demo_story.errors import expect
from scripts.demo_story.names import Names
from scripts.demo_story.processes import STOP_SECS, Processes, free_ports, wait_until
from scripts.demo_story.runtime import PORT, Container, Target, Way, ask

PEERS = Path(os.environ.get("SYNTRA_PEERS") or Path.home() / ".cache" / "syntra-peers")
PROXY_PATIENCE_SECS = 5.0


class DockerRuntime:
    """Implements `runtime.Runtime`."""

    name = "docker"
    removed = "no container and no image of it is left in the engine"
    otlp_address = ""

    def __init__(self, names: Names, processes: Processes, engine: Engine) -> None:
        self._names = names
        self._processes = processes
        self._engine = engine
        self._registry = ""
        self._proxy_api = ""

    def publish(self, broken: Mapping[str, bool]) -> str:
        """Push the versions to a registry of the demo's own."""
        self._start_registry()
        for version, is_broken in broken.items():
            repository = f"{self._registry}/hello"
            self._engine.publish(repository, version, broken=is_broken, token=self._names.token)
        expect(not self._engine.images(self._names.token), "images of the service are in the engine already")
        return f"a registry on {self._registry} has hello:v1, v2 and v3; the engine has none of them"

    def image(self, version: str) -> object:
        """The image in the registry."""
        return {"registry": self._registry, "repository": "hello", "tag": version}

    def open_way(self) -> Way:
        """Start Traefik; without one, requests go to the containers."""
        program = shutil.which(PEERS / "traefik") or shutil.which("traefik")
        if program is None:
            return Way(
                through="",
                targets=self._containers_as_targets,
                introduction="no Traefik here, so requests go to the containers themselves",
            )
        port, host = self._start_proxy(program), self._names.host
        target = Target(address="127.0.0.1", port=port, host=host, patience_secs=PROXY_PATIENCE_SECS)
        return Way(
            through="Traefik",
            targets=lambda: [target],
            domains=(host,),
            introduction=f"Traefik on port {port}; {host} will be the service",
            look=lambda: f'curl -H "Host: {host}" http://127.0.0.1:{port}/',
        )

    def agent_settings(self, otlp_http_port: int) -> str:
        """The engine's socket, and Traefik's directory."""
        socket = json.dumps(self._engine.socket_path)
        runtime = f'[runtime]\nruntime_type = "docker"\ndocker_socket = {socket}\n[networking]\n'
        if not self._proxy_api:
            return runtime
        return (
            f"{runtime}traefik_dynamic_dir = {json.dumps(str(self._routes))}\n"
            f'traefik_api = "{self._proxy_api}"\n'
            'entrypoints = ["web"]\n'
            # No certificates: an example domain cannot get one.
            'cert_resolver = ""\n'
        )

    def containers(self) -> list[Container]:
        """The service's containers."""
        return self._engine.containers(self._names.service_id)

    def left(self) -> list[str]:
        """Containers and images."""
        images = self._engine.images(self._names.token)
        return [*(container.name for container in self.containers()), *(f"image {image[:19]}" for image in images)]

    def clear(self) -> None:
        """Remove containers, network and images; end Traefik and the registry."""
        self._processes.end("proxy")
        self._processes.end("registry")
        names = self._names
        wait_until(
            lambda: self._engine.remove_all(service_id=names.service_id, project=names.project, token=names.token),
            f"the engine has nothing of {names.token} any more",
            STOP_SECS,
        )

    def _containers_as_targets(self) -> list[Target]:
        return [Target(address=c.address, port=PORT) for c in self.containers() if c.running and c.address]

    @property
    def _routes(self) -> Path:
        return self._processes.path("routes")

    def _start_registry(self) -> None:
        """Start Debian's docker-registry on loopback; engines accept plain HTTP there."""
        port = free_ports(1)[0]
        self._registry = f"127.0.0.1:{port}"
        config = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._processes.path("registry"))}},
            "http": {"addr": self._registry},
        }
        # JSON is valid YAML.
        file = self._processes.path("registry.yml")
        file.write_text(json.dumps(config))
        self._processes.start("registry", ["docker-registry", "serve", str(file)])
        self._processes.await_from(
            "registry", lambda: _status("127.0.0.1", port, "/v2/") == 200, "the registry answers"
        )

    def _start_proxy(self, program: str) -> int:
        """Start Traefik on loopback, watching a directory of the agent's; return its port for requests."""
        web, internal = free_ports(2)
        self._routes.mkdir()
        arguments = {
            "global.checkNewVersion": "false",
            "global.sendAnonymousUsage": "false",
            "entryPoints.web.address": f"127.0.0.1:{web}",
            "entryPoints.traefik.address": f"127.0.0.1:{internal}",
            "api.insecure": "true",
            "api.dashboard": "false",
            "providers.file.directory": str(self._routes),
            "providers.file.watch": "true",
            "providers.providersThrottleDuration": "100ms",
        }
        self._processes.start("proxy", [program, *(f"--{name}={value}" for name, value in arguments.items())])
        self._processes.await_from(
            "proxy", lambda: _status("127.0.0.1", internal, "/api/version") == 200, "the proxy answers"
        )
        self._proxy_api = f"http://127.0.0.1:{internal}"
        return web


def _status(address: str, port: int, path: str) -> int:
    try:
        return ask(address, path, port=port)[0]
    except (OSError, http.client.HTTPException):
        return 0
