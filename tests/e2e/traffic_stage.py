"""A service behind a real Traefik with an agent of its own, and the load on it."""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syntra.networking.file_writer import FILE_NAME
from tests.e2e.agent_process import AgentProcess
from tests.e2e.load import Load, RouteWatch
from tests.e2e.private_engine import PrivateEngine
from tests.e2e.program import AGENT
from tests.e2e.web_service import image_tar, instructions, web_image
from tests.engine import SOCKET, api, cleanup, new_token
from tests.networking.real_traefik import RealTraefik

DRAIN_SECS = 4
"""Longer than the slow requests take, and short enough for several deploys in a minute."""


@dataclass(slots=True)
class Stage:
    """What a test works with. `engine` is None on the shared one. `image` is what all versions run."""

    token: str
    agent: AgentProcess
    proxy: RealTraefik
    engine: PrivateEngine | None = None
    image: str = ""

    @property
    def service(self) -> str:
        return f"svc-{self.token}"

    @property
    def host(self) -> str:
        return f"{self.token}.example.com"

    def payload(self, version: str, **changes: Any) -> dict[str, Any]:
        return {
            "service_id": self.service,
            "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
            "project_name": self.token,
            "image": self.image or f"{self.token}:v1",
            "config": {
                "port": 8080,
                "replicas": changes.pop("replicas", 2),
                "env_vars": {"VERSION": version, **changes.pop("env", {})},
                "health_check": {"path": "/health", "interval_seconds": 1, "timeout_seconds": 1, "retries": 3},
            },
            "networking": {"domains": [self.host]},
            "timeout_seconds": 120,
            **changes,
        }

    def carry_out(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        return self.agent.carry_out(kind, payload, timeout=150)

    def deployed(self, version: str, **changes: Any) -> dict[str, Any]:
        """A deploy that has to succeed; its payload."""
        payload = self.payload(version, **changes)
        report = self.carry_out("deploy", payload)
        assert report.get("status") == "running", report
        return payload

    def ask_engine(self, method: str, path: str, body: object = None, *, query: Mapping[str, str] | None = None) -> Any:
        """One JSON request to whichever engine it is."""
        if self.engine is None:
            return api(method, path, body, query=query)
        return self.engine.api(method, path, None if body is None else json.dumps(body).encode(), query=query)

    def replicas(self) -> list[dict[str, Any]]:
        """The service's running containers, as the engine lists them."""
        query = {"filters": json.dumps({"label": [f"syntra.service_id={self.service}"]})}
        listed: list[dict[str, Any]] = self.ask_engine("GET", "/containers/json", query=query)
        return listed

    def addresses(self) -> set[str]:
        """Where the running containers are."""
        return {
            network["IPAddress"] for item in self.replicas() for network in item["NetworkSettings"]["Networks"].values()
        }

    def routed(self) -> set[str]:
        """The addresses that the proxy sends requests to at this moment."""
        return set(re.findall(r'"http://([0-9.]+):8080"', self.proxy.works_with()))

    def served(self) -> tuple[int, str]:
        answer = self.proxy.get(self.host)
        return answer.status, answer.body.strip()


@contextlib.contextmanager
def staged(
    folder: Path,
    *,
    engine: PrivateEngine | None = None,
    labels: bool = False,
    reads_labels: bool = False,
    throttle: str | None = "50ms",
    dynamic_dir: Path | None = None,
    drain_secs: float = DRAIN_SECS,
) -> Iterator[Stage]:
    """A stage without its service yet, on the shared engine or on one of its own.

    With `labels` the routes are made by Traefik's own Docker provider from the containers' labels. With `reads_labels`
    the file makes them, and the provider takes every container for its own that does not say otherwise.
    """
    token = new_token()
    socket = SOCKET if engine is None else engine.socket
    inside = () if engine is None else engine.inside
    docker = {
        "endpoint": f"unix://{socket}",
        "exposedByDefault": reads_labels,
        "constraints": f"Label(`syntra.project`, `{token}`)",
    }
    try:
        if engine is None:
            web_image(f"{token}:v1")
        else:
            engine.import_image(f"{token}:v1", image_tar(), instructions("1"))
        with RealTraefik(
            folder / "proxy",
            throttle=throttle,
            docker=docker if labels or reads_labels else None,
            namespace=engine.namespace if engine else None,
        ) as proxy:
            config = (
                "[runtime]\nmin_healthy_secs = 0.2\n[networking]\n"
                f'proxy = "{"traefik-labels" if labels else "traefik-file"}"\n'
                f'traefik_dynamic_dir = "{dynamic_dir or proxy.directory}"\ntraefik_api = "{proxy.api_url}"\n'
                'entrypoints = ["web"]\ncert_resolver = ""\nhttps_redirect_entrypoint = ""\n'
                f"drain_seconds = {drain_secs}\n"
            )
            command = (*inside, *AGENT)
            with AgentProcess(folder / "agent", config=config, engine_socket=str(socket), command=command) as agent:
                yield Stage(token=token, agent=agent, proxy=proxy, engine=engine)
    finally:
        if engine is None:
            cleanup(token)


@dataclass(slots=True)
class Underway:
    """The load on a stage's service, and who may be cut when."""

    load: Load
    watch: RouteWatch

    def check(self, *versions: str) -> None:
        """Nothing failed, no websocket was cut while it had time left, and these versions answered."""
        report = self.load.report
        cut, in_time = self.watch.cut(report.ends, DRAIN_SECS)
        print(f"{report}; {len(cut)} websockets cut, {len(in_time)} ended at the deadline of their drain")
        assert report.failed == 0, str(report)
        assert cut == [], f"{len(cut)} of {report.opened} websockets: {cut[:5]}"
        assert set(report.answers) == set(versions)
        assert report.echoes > 0


@contextlib.contextmanager
def under_load(stage: Stage) -> Iterator[Underway]:
    """200 requests a second and 20 websockets."""
    inside = stage.engine.inside if stage.engine else ()
    with (
        RouteWatch(stage.proxy.directory / FILE_NAME) as watch,
        Load(stage.proxy.web, stage.host, inside=inside) as load,
    ):
        yield Underway(load, watch)
