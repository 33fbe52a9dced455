"""The control plane as an operator uses it: a few calls of its HTTP API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.demo_story.errors import StoryFailed

TIMEOUT_SECS = 15.0

JsonObject = dict[str, Any]


class ControlPlane:
    """Calls raise StoryFailed when the control plane refuses them, and OSError when it cannot be reached."""

    def __init__(self, url: str, token_path: Path) -> None:
        self._url = url
        self._token = token_path.read_text().strip()
        # Without the proxies of the environment: the control plane is on loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def create_token(self, server_id: str, name: str) -> str:
        """A new token for the agent of a server."""
        return str(self._call("/tokens", {"server_id": server_id, "name": name})["token"])

    def is_connected(self, server_id: str) -> bool:
        """Whether the agent of the server is connected."""
        return bool(self._call(f"/servers/{server_id}")["connected"])

    def command(self, server_id: str, kind: str, payload: Mapping[str, object], *, wait: int) -> JsonObject:
        """Send a command and wait for its response; the command as the API shows it."""
        return self._call(
            f"/servers/{server_id}/commands?wait={wait}", {"type": kind, "payload": dict(payload)}, wait=wait
        )

    def deployment(self, deployment_id: str) -> JsonObject:
        """A deployment with all its events."""
        view = self._call(f"/deployments/{deployment_id}")
        events = view["events"]
        while view["more"]:
            view = self._call(f"/deployments/{deployment_id}?after={view['next']}")
            events += view["events"]
        return {**view, "events": events}

    def logs(self, request_id: str, *, after: int, wait: int) -> JsonObject:
        """The next page of a log subscription's lines: `{"lines", "next", "more", "done"}`."""
        return self._call(f"/logs/{request_id}?after={after}&wait={wait}", wait=wait)

    def spans(self, service_id: str) -> list[JsonObject]:
        """All spans of a service."""
        found: list[JsonObject] = []
        page: JsonObject = {"more": True, "next": ""}
        while page["more"]:
            after = f"&after={page['next']}" if page["next"] else ""
            page = self._call(f"/telemetry/traces?service={service_id}{after}")
            found += page["traces"]
        return found

    def _call(self, path: str, body: JsonObject | None = None, *, wait: int = 0) -> JsonObject:
        request = urllib.request.Request(
            f"{self._url}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}"},
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECS + wait) as answer:
                found: JsonObject = json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                raise StoryFailed(f"the control plane refused {path}: {refused.read().decode()}") from refused
        return found
