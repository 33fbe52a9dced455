"""A client that makes exactly the engine calls that a deployment needs, and nothing else.

One kept connection; no journal, plan, statuses, observation or rollback.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from syntra.networking.dns.resolv_conf import HOST_FILE, RESOLVED_FILE, container_dns
from tests.engine import API, PORT, TOKEN_LABEL, UnixConnection

POLL_SECS = 0.002
"""Pause between two requests to /health. An answer takes less than a millisecond."""
STOPS_AT_ONCE = 5
"""The agent's own limit, so that both sides stop and remove the same number at once."""
GRACE_SECS = 10


class BareClient:
    """The engine calls of one service's life. `token` marks the objects that it creates, for the clean-up."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._connection = UnixConnection(timeout=120.0)
        # Any resolver gives the same work: the service's address is already known.
        texts = [Path(file).read_text() for file in (HOST_FILE, RESOLVED_FILE) if Path(file).exists()]
        self._dns = container_dns(gateway="192.0.2.1", project="bare", host_files=texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def deploy(self, image: str, network: str, replicas: int) -> list[str]:
        """Pull, create the network, then create, start and await one replica after another; returns their ids."""
        repository, _, tag = image.rpartition(":")
        pulled = self._call("POST", "/images/create", query={"fromImage": repository, "tag": tag})
        for line in pulled.splitlines():
            assert b'"error"' not in line, f"the pull failed: {line.decode()}"
        body = {"Name": network, "Driver": "bridge", "CheckDuplicate": True, "Labels": {TOKEN_LABEL: self._token}}
        self._call("POST", "/networks/create", body)
        return [self._replica(image, network, index) for index in range(1, replicas + 1)]

    def _replica(self, image: str, network: str, index: int) -> str:
        body = {
            "Image": image,
            "Env": ["SYNTRA_SERVICE_ID=bare"],
            "Labels": {TOKEN_LABEL: self._token},
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "HostConfig": {
                "NetworkMode": network,
                "RestartPolicy": {"Name": "always"},
                "Mounts": [],
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
                "Dns": list(self._dns.servers),
                "DnsSearch": list(self._dns.search),
                "DnsOptions": list(self._dns.options),
            },
            "NetworkingConfig": {"EndpointsConfig": {network: {}}},
            "StopSignal": "SIGTERM",
            "Healthcheck": {"Test": ["NONE"]},
        }
        name = f"{self._token}-{index}"
        container = str(json.loads(self._call("POST", "/containers/create", body, query={"name": name}))["Id"])
        self._call("POST", f"/containers/{container}/start")
        details = json.loads(self._call("GET", f"/containers/{container}/json"))
        _await_healthy(details["NetworkSettings"]["Networks"][network]["IPAddress"])
        return container

    def remove(self, containers: Sequence[str], image: str, network: str) -> None:
        """Stop all replicas, then remove them, as many at once as the agent does; then the image and the network."""
        with ThreadPoolExecutor(STOPS_AT_ONCE) as pool:
            list(pool.map(self._stop, containers))
            list(pool.map(self._remove, containers))
        self._call("DELETE", f"/images/{urllib.parse.quote(image, safe='')}")
        self._call("DELETE", f"/networks/{network}")

    def _stop(self, container: str) -> None:
        with BareClient(self._token) as client:
            client._call("POST", f"/containers/{container}/stop", query={"t": str(GRACE_SECS)})

    def _remove(self, container: str) -> None:
        with BareClient(self._token) as client:
            client._call("DELETE", f"/containers/{container}", query={"force": "1", "v": "1"})

    def _call(
        self, method: str, path: str, body: object | None = None, *, query: Mapping[str, str] | None = None
    ) -> bytes:
        target = API + path + ("?" + urllib.parse.urlencode(query) if query else "")
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, target, None if body is None else json.dumps(body).encode(), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status < 400, f"{method} {path}: {answer.status} {content.decode(errors='replace')}"
        return content


def _await_healthy(address: str) -> None:
    while True:
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL_SECS)


def settings_of(details: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an inspection that determine how much work a container is; they must be the same on both sides."""
    host = {key: value for key, value in details["HostConfig"].items() if key != "NetworkMode"}
    # The number of resolvers and domains, not their names.
    host |= {key: len(host[key] or ()) for key in ("Dns", "DnsSearch")}
    config = details["Config"]
    kept = {key: config.get(key) for key in ("Cmd", "ExposedPorts", "Healthcheck", "StopSignal", "User", "Volumes")}
    return {"host": host, "config": kept, "networks": len(details["NetworkSettings"]["Networks"])}
