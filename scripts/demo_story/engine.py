"""The Docker engine as an outside client uses it: import and push images, find a service's containers, clean up.

Everything that the demo creates has its token in a label or name; nothing else is ever removed.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import shutil
import socket
import subprocess
import tarfile
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.demo_story.errors import StoryFailed

API = "/v1.41"
PORT = 8080
DEMO_LABEL = "syntra.demo"
SERVICE_LABEL = "syntra.service_id"
DEPLOYMENT_LABEL = "syntra.deployment_id"
KEPT_SUFFIX = "-failed"
PROJECT_LABEL = "syntra.project"

SERVICE = """#!/bin/sh
trap 'kill $child $spans; exit 0' TERM INT
echo "{greeting}"
spans &
spans=$!
httpd {options} -p 8080 -h /www &
child=$!
wait $child
"""
SPANS = Path(__file__).with_name("spans.sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of the demo's service; `address` is empty until it has one."""

    id: str
    name: str
    deployment_id: str
    running: bool
    is_kept: bool
    """It failed, and is kept for a look at it."""
    address: str


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
        query = {"fromSrc": "-", "repo": repository, "tag": version, "changes": changes}
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


def ask(address: str, path: str = "/", *, port: int = PORT, timeout: float = 3.0, host: str = "") -> tuple[int, str]:
    """Status and text of one plain HTTP GET; raises OSError or HTTPException when there is no answer."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()


def sample_service(version: str, *, broken: bool) -> bytes:
    """A root file system as a tar: static busybox, and a web service that returns its version at `/`.

    A broken version says so, and has no `/health`.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        raise StoryFailed("there is no busybox to make an image of; install busybox-static")
    program = Path(busybox).read_bytes()
    # A dynamic program has its interpreter's path near the start (elf(5), PT_INTERP); the image has no interpreter.
    if re.search(rb"/ld-(linux|musl)", program[:4096]):
        raise StoryFailed(f"{busybox} is not static, and an image of it alone would not run; install busybox-static")
    greeting = f"{version} starts, but finds no settings" if broken else f"{version} starts"
    # -v logs each request; a broken version must end its log with its own message.
    options = "-f" if broken else "-f -v"
    files = {
        "bin/busybox": program,
        "bin/service": SERVICE.format(greeting=greeting, options=options).encode(),
        "bin/spans": SPANS.read_bytes(),
        "www/index.html": f"{version}\n".encode(),
        **({} if broken else {"www/health": b"ok\n"}),
    }
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(entry, io.BytesIO(content))
        for applet in sorted(set(applets) - {"busybox"}):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return target.getvalue()


def _label_filter(label: str, value: str) -> str:
    return json.dumps({"label": [f"{label}={value}"]})


def _progress(content: bytes) -> None:
    # A failed import or push reports its error in the body, with status 200.
    for line in content.splitlines():
        if line.strip() and "error" in (said := json.loads(line)):
            raise StoryFailed(f"the engine failed: {said['error']}")
