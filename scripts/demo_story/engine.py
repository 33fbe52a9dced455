"""The Docker engine as an outside client uses it: import and push images, find a service's containers, clean up.

Everything that the demo creates has its token in a label or name; nothing else is ever removed.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.demo_story.errors import StoryFailed
from scripts.demo_story.image import sample_service
from scripts.demo_story.runtime import PORT, Container

API = "/v1.41"
DEMO_LABEL = "syntra.demo"
SERVICE_LABEL = "syntra.service_id"
DEPLOYMENT_LABEL = "syntra.deployment_id"
KEPT_SUFFIX = "-failed"
PROJECT_LABEL = "syntra.project"


class Engine:
    """One engine on a unix socket. Raises StoryFailed when it refuses, OSError when it does not exist."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path

    def containers(self, service_id: str) -> list[Container]:
        """Every container of a service, oldest first."""
        query = {"all": "1", "filters": _label_filter(SERVICE_LABEL, service_id)}
        found = sorted(
            self._json("GET", "/containers/json", query=query), key=lambda item: (item["Created"], item["Names"])
        )
        return [
            Container(
                id=item["Id"],
                name=item["Names"][0].lstrip("/"),
                deployment_id=item["Labels"].get(DEPLOYMENT_LABEL, ""),
                running=item["State"] == "running",
                is_kept=item["Names"][0].endswith(KEPT_SUFFIX),
                address=next((n["IPAddress"] for n in item["NetworkSettings"]["Networks"].values()), ""),
            )
            for item in found
        ]

    def images(self, token: str) -> list[str]:
        """The ids of the images with this token."""
        found = self._json("GET", "/images/json", query={"filters": _label_filter(DEMO_LABEL, token)})
        return [item["Id"] for item in found]

    def networks(self, project: str) -> list[str]:
        """The ids of a project's networks."""
        found = self._json("GET", "/networks", query={"filters": _label_filter(PROJECT_LABEL, project)})
        return [item["Id"] for item in found]

    def publish(self, repository: str, version: str, *, broken: bool, token: str) -> None:
        """Import one version of the sample service, push it as REPOSITORY:VERSION, and remove it from the engine."""
        changes = ['CMD ["/bin/service"]', "ENV PATH=/bin", f"EXPOSE {PORT}", f"LABEL {DEMO_LABEL}={token}"]
        # Podman ignores `tag` here.
        query = {"fromSrc": "-", "repo": f"{repository}:{version}", "changes": changes}
        body = sample_service(version, broken=broken)
        _progress(self._call("POST", "/images/create", body, query=query, kind="application/x-tar"))
        no_credentials = {"X-Registry-Auth": base64.urlsafe_b64encode(b"{}").decode()}
        path = f"/images/{repository}/push"
        _progress(self._call("POST", path, query={"tag": version}, headers=no_credentials))
        self._call("DELETE", f"/images/{repository}:{version}")

    def remove_all(self, *, service_id: str, project: str, token: str) -> bool:
        """Remove the service's containers, the project's network and the token's images; True when there were any.

        An object that the engine refuses to remove, or is removing already, is tried again in the next call.
        """
        paths = [f"/containers/{container.id}" for container in self.containers(service_id)]
        paths += [f"/networks/{network}" for network in self.networks(project)]
        paths += [f"/images/{image}" for image in self.images(token)]
        for path in paths:
            self._call("DELETE", path, query={"force": "1", "v": "1"}, may_fail=True)
        return not paths

    def _json(self, method: str, path: str, *, query: Mapping[str, str]) -> Any:
        return json.loads(self._call(method, path, query=query))

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: Mapping[str, str | Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        kind: str = "application/json",
        may_fail: bool = False,
    ) -> bytes:
        connection = _UnixConnection(self.socket_path)
        target = f"{API}{path}?{urllib.parse.urlencode(query or {}, doseq=True)}"
        try:
            connection.request(method, target, body, {"Content-Type": kind, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400 and not may_fail:
            raise StoryFailed(f"the engine refused {method} {path}: {answer.status} {content[:200].decode()!r}")
        return content


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _label_filter(label: str, value: str) -> str:
    return json.dumps({"label": [f"{label}={value}"]})


def _progress(content: bytes) -> None:
    # A failed import or push reports its error in the body, with status 200.
    for line in content.splitlines():
        if line.strip() and "error" in (said := json.loads(line)):
            raise StoryFailed(f"the engine failed: {said['error']}")
