"""A synchronous client of the operators' API, on the standard library alone."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from syntra.utils.errors import AgentError

# The longest the control plane lets one request wait; longer waits are several requests.
_LONGEST_WAIT = 60.0

JsonObject = dict[str, Any]


class ControlPlaneClientError(AgentError):
    """The control plane refused, or could not be reached (`status` 0). `code` is the API's error code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ControlPlaneClient:
    """Each call is one connection, or several for a long wait. `timeout` bounds every read beyond the asked wait.

    Answers are the API's JSON objects. Raises ControlPlaneClientError. Threads may share a client.
    """

    def __init__(
        self, base_url: str, operator_token: str, *, timeout: float = 15.0, tls: ssl.SSLContext | None = None
    ) -> None:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or url.hostname is None:
            raise AgentError(f"cannot use {base_url!r} as a control plane: not an http or https URL; give one")
        token = operator_token.strip()
        # Checked here because http.client would quote it in its error.
        if not token.isascii() or not token.isprintable() or not token:
            raise AgentError("cannot use the operator token: it is empty or not a line of ASCII; read it from its file")
        self._scheme = url.scheme
        self._host = url.hostname
        self._port = url.port
        self._token = token
        self._timeout = timeout
        self._tls = tls

    def __repr__(self) -> str:
        return f"ControlPlaneClient({self._scheme}://{self._host}:{self._port})"

    @classmethod
    def from_token_file(cls, base_url: str, path: Path, **options: Any) -> Self:
        """A client with the token in a file, as the control plane writes it."""
        try:
            token = path.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise AgentError(f"cannot read the operator token {path}: {exc}; give the control plane's file") from exc
        return cls(base_url, token, **options)

    def healthy(self) -> bool:
        """Whether the control plane answers."""
        try:
            return bool(self._call("GET", "/healthz")["status"] == "ok")
        except ControlPlaneClientError:
            return False

    def create_token(self, server_id: str | None = None, name: str | None = None) -> JsonObject:
        """A new agent token: `{"token", "server_id"}`. The token is shown this once."""
        body = {key: value for key, value in (("server_id", server_id), ("name", name)) if value is not None}
        return self._call("POST", "/api/v1/tokens", body)

    def servers(self) -> list[JsonObject]:
        """All servers."""
        page = self._call("GET", "/api/v1/servers")
        servers: list[JsonObject] = page["servers"]
        while page["more"]:
            page = self._call("GET", f"/api/v1/servers?after={_quoted(page['next'])}")
            servers += page["servers"]
        return servers

    def server(self, server_id: str) -> JsonObject:
        """One server."""
        return self._call("GET", f"/api/v1/servers/{_quoted(server_id)}")

    def command(
        self,
        server_id: str,
        type: str,
        payload: Mapping[str, object] | None = None,
        wait: float | None = None,
    ) -> JsonObject:
        """Send a command: `{"request_id", "state", "deployment_id"?}`, with `response` when `wait` got an answer."""
        path = f"/api/v1/servers/{_quoted(server_id)}/commands"
        seconds = min(wait or 0.0, _LONGEST_WAIT)
        return self._call("POST", f"{path}?wait={seconds:g}", {"type": type, "payload": dict(payload or {})}, seconds)

    def command_state(self, request_id: str, wait: float | None = None) -> JsonObject:
        """A command with its response, after at most `wait` seconds."""
        return self._long_poll(
            f"/api/v1/commands/{_quoted(request_id)}?", wait, lambda view: view["state"] in ("answered", "timed_out")
        )

    def deployment(self, deployment_id: str, wait: float | None = None) -> JsonObject:
        """A deployment with all events; `wait` seconds at most for it to be running, failed, rolled back or refused."""

        def over(view: JsonObject) -> bool:
            response = (view["command"] or {}).get("response") or {}
            return view["status"] in ("running", "failed", "rolled_back") or response.get("success") is False

        path = f"/api/v1/deployments/{_quoted(deployment_id)}?"
        view = page = self._long_poll(path, wait, over)
        while page["more"]:
            page = self._call("GET", f"{path}after={page['next']}")
            view["events"] += page["events"]
        return view

    def alerts(self, server_id: str, after: int = 0) -> JsonObject:
        """A page of alerts beyond `after`: `{"alerts", "next", "more"}`."""
        return self._call("GET", f"/api/v1/servers/{_quoted(server_id)}/alerts?after={after}")

    def telemetry(self, kind: str, **fields: object) -> JsonObject:
        """A page of items: `{KIND, "next", "more"}`. `since` is the field `from`, which Python reserves."""
        given = {"from" if name == "since" else name: str(value) for name, value in fields.items()}
        return self._call("GET", f"/api/v1/telemetry/{kind}?{urlencode(given)}")

    def all_telemetry(self, kind: str, **fields: object) -> list[JsonObject]:
        """The items of all pages."""
        page = self.telemetry(kind, **fields)
        found: list[JsonObject] = page[kind]
        while page["more"]:
            page = self.telemetry(kind, **{**fields, "after": page["next"]})
            found += page[kind]
        return found

    def logs(self, request_id: str, after: int = 0, wait: float | None = None) -> JsonObject:
        """A page of lines beyond `after`: `{"lines", "next", "more", "done"}`; `wait` at most for the first of them."""
        return self._long_poll(
            f"/api/v1/logs/{_quoted(request_id)}?after={after}&", wait, lambda view: bool(view["lines"] or view["done"])
        )

    def _long_poll(self, path: str, wait: float | None, over: Callable[[JsonObject], bool]) -> JsonObject:
        end = time.monotonic() + (wait or 0.0)
        while True:
            seconds = min(max(end - time.monotonic(), 0.0), _LONGEST_WAIT)
            view = self._call("GET", f"{path}wait={seconds:.3f}", wait=seconds)
            if over(view) or time.monotonic() >= end:
                return view

    def _call(self, method: str, path: str, body: JsonObject | None = None, wait: float = 0.0) -> JsonObject:
        connection = self._connection(self._timeout + wait)
        headers = {"Authorization": f"Bearer {self._token}"}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise ControlPlaneClientError(
                0, "UNREACHABLE", f"cannot reach the control plane at {self._host}: {exc}; check that it runs"
            ) from exc
        finally:
            connection.close()
        try:
            answer: JsonObject = json.loads(text)
            if status >= 400:
                raise ControlPlaneClientError(status, str(answer["error"]["code"]), str(answer["error"]["message"]))
        except (ValueError, KeyError, TypeError) as exc:
            raise ControlPlaneClientError(
                status, "NOT_A_CONTROL_PLANE", f"cannot read the answer of {self._host}: HTTP {status}; check the URL"
            ) from exc
        return answer

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._scheme == "https":
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)


def _quoted(text: str) -> str:
    return quote(text, safe="")
