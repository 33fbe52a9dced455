"""A small hub: it speaks and keeps its rows as the deployed one was found to, over a real WebSocket."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from tests.contract.scripted_plane import Arrived, Link, ScriptedPlane
from tests.engine import wait_until

KNOWN = ("pulling", "creating", "starting", "running", "failed", "building", "deploying", "stopped")
ACK: Mapping[str, Any] = {
    "server_id": "4f49ca48-5757-48ca-bab3-d1299d724453",
    "accepted": True,
    "server_name": "rig",
    "org_id": "1c16c113-aa85-4331-9237-324c34f87fe0",
    "config": {"heartbeat_interval_seconds": 30, "telemetry_batch_interval_seconds": 5, "log_level": "info"},
    "pending_deployments": [],
}


class Hub:
    """One agent's hub. `accept` takes its next connection; rows are made of everything that it has said since."""

    def __init__(self, plane: ScriptedPlane) -> None:
        self._plane = plane
        self._links: list[Link] = []

    @property
    def link(self) -> Link:
        return self._links[-1]

    def accept(self, *pending: Mapping[str, Any]) -> None:
        self._links.append(self._plane.accepted({**ACK, "pending_deployments": list(pending)}))

    def send(self, kind: str, payload: Mapping[str, Any]) -> str:
        """Send a frame as the hub does: known by its envelope's id alone, unless the payload has a request id."""
        return self.link.send(kind, payload, id=payload.get("request_id"))

    def ask(self, kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        request = self.send(kind, payload)
        return dict(self.link.expect("command_response", request_id=request, timeout=30).payload)

    def deploy(self, service: str, image: str, **service_fields: Any) -> str:
        """A deploy in the hub's nested shape; its deployment id. `project_name` is the test's, for its clean-up."""
        deployment = str(uuid.uuid4())
        given = {"docker": {"image": image, "tag": "latest"}, **service_fields.pop("beside", {})}
        fields = {
            "id": service,
            "name": "web",
            "type": "web",
            "source_type": "docker_image",
            "docker_image": image,
            "dockerfile_path": None,
            "port": 8080,
            "replicas": 1,
            "health_check": {"path": "/health", "interval_seconds": 1},
            "env_vars": {},
            "resources": None,
            **service_fields,
        }
        self.send("deploy", {"deployment_id": deployment, "service": fields, **given})
        return deployment

    # Rows

    def statuses(self, deployment: str) -> list[Arrived]:
        return [
            frame
            for link in self._links
            for frame in link.of("deploy_status")
            if frame.payload["deployment_id"] == deployment
        ]

    def row(self, deployment: str) -> str:
        """The state of the deployment's row; a status that is not known is stored as `running`."""
        said = [str(frame.payload["status"]) for frame in self.statuses(deployment)]
        stored = [status if status in KNOWN else "running" for status in said]
        return stored[-1] if stored else "building"

    def announcements(self, deployment: str) -> int:
        """How often the deployment was announced as a success."""
        said = [str(frame.payload["status"]) for frame in self.statuses(deployment)]
        return sum(status == "running" or status not in KNOWN for status in said)

    def reason(self, deployment: str) -> str:
        return str(self.statuses(deployment)[-1].payload.get("error_message", ""))

    def until(self, deployment: str, state: str, timeout: float = 60.0) -> None:
        """Wait for the row's last state."""

        def ended() -> bool:
            return self.row(deployment) in ("running", "failed")

        wait_until(ended, f"the end of {deployment}; {self.row(deployment)}", timeout)
        assert self.row(deployment) == state, self.reason(deployment)
