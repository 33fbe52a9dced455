"""Messages about commands: responses, deployment statuses and alerts in the contract's form, and their local listeners.

A message to the control plane enters the journal's outbox in the transaction that it reports. Local listeners receive
it after that transaction.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Protocol

from syntra.model.fields import Json
from syntra.model.ids import DeploymentId, RequestId, ServiceId
from syntra.model.status import DeployState, Failure, LogLine, Phase
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen
from syntra.utils.timestamps import format_secs

log = logging.getLogger(__name__)

CONTROL_PLANE = "control-plane"
LOCAL = "local"
# Enough to see why a program died; `logs` shows the rest.
MAX_REPORT_LINES = 50
MAX_REPORT_LINE_CHARS = 4096

Listener = Callable[[str, Mapping[str, Json]], None]


class PeerGone(AgentError):
    """The peer of a stream has disconnected."""


class Peer(Protocol):
    """The sender of a command. `origin` is CONTROL_PLANE or LOCAL; peers of one `share` have one limit of requests."""

    origin: str
    share: str

    async def respond(self, payload: Mapping[str, Json]) -> None:
        """Send a `command_response` that is not in the journal."""

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None:
        """Send a message that is not in the journal. Waits for a slow peer; raises PeerGone when it disconnects."""


@frozen
class Progress:
    """One status of one deployment."""

    request_id: RequestId
    deployment_id: DeploymentId
    service_id: ServiceId
    operation: str
    """Which command it is about: `deploy`, `rollback` or `scale`."""
    state: DeployState
    phase: Phase
    percent: int
    message: str
    started_at: float
    finished_at: float | None = None
    container_id: str | None = None
    failure: Failure | None = None
    detail: str = ""
    """How far the step is that an earlier message named; empty in a message about another step."""
    is_rolling_back: bool = False
    logs: tuple[LogLine, ...] = field(default=(), repr=False)


class Reports:
    """Renders messages and keeps the local listeners. One instance; use it on the event loop only."""

    def __init__(self, server_id: str) -> None:
        self._server_id = server_id
        self._listeners: dict[RequestId, list[Listener]] = {}

    def listen(self, request_id: RequestId, listener: Listener) -> Callable[[], None]:
        """Call `listener(type, payload)` for each message about a request. Returns the function that unsubscribes."""
        self._listeners.setdefault(request_id, []).append(listener)

        def end() -> None:
            listeners = self._listeners.get(request_id, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                self._listeners.pop(request_id, None)

        return end

    def notify(self, request_id: RequestId, kind: str, payload: Mapping[str, Json]) -> None:
        """Notify the local listeners; call it after the journal's commit."""
        for listener in list(self._listeners.get(request_id, ())):
            listener(kind, payload)

    def alert(
        self,
        *,
        kind: str,
        severity: str,
        title: str,
        message: str,
        service_id: ServiceId | None,
        metadata: Mapping[str, Json],
    ) -> str:
        """Render an `alert` frame."""
        # The contract's optional fields are left out, never null.
        about = {"service_id": service_id} if service_id is not None else {}
        payload = {
            "alert_id": f"alr_{uuid.uuid4().hex[:16]}",
            **about,
            "server_id": self._server_id,
            "type": kind,
            "severity": severity,
            "title": title,
            "message": message,
            "timestamp": format_secs(time.time()),
            "metadata": dict(metadata),
        }
        return envelope("alert", payload)


def envelope(kind: str, payload: Mapping[str, Json], *, message_id: str | None = None) -> str:
    """Render one frame of the wire contract."""
    return json.dumps(
        {"id": message_id or str(uuid.uuid4()), "type": kind, "timestamp": format_secs(time.time()), "payload": payload}
    )


def for_control_plane(origin: str, kind: str, payload: Mapping[str, Json]) -> list[str]:
    """The message for the outbox when the request came from the control plane; otherwise an empty list."""
    return [envelope(kind, payload)] if origin == CONTROL_PLANE else []


def success(request_id: RequestId, data: Mapping[str, Json]) -> dict[str, Json]:
    """A `command_response` for a command that succeeded."""
    return {"request_id": request_id, "success": True, "data": dict(data)}


def refusal(request_id: str, failure: Failure, details: Mapping[str, Json] | None = None) -> dict[str, Json]:
    """A `command_response` for a command that failed, with the reason."""
    error: dict[str, Json] = {"code": failure.code, "message": failure.message}
    about = {**({"runtime": failure.details} if failure.details else {}), **(details or {})}
    if about:
        error["details"] = about
    return {"request_id": request_id, "success": False, "error": error}


def about_deployment(kind: str, payload: Mapping[str, Json]) -> dict[str, Json]:
    """The details of a refusal: the deployment that the command names.

    A control plane that does not track its commands needs them to find the deployment.
    """
    key = {"deploy": "deployment_id", "rollback": "target_deployment_id", "cancel": "deployment_id"}.get(kind)
    deployment_id = payload.get(key) if key is not None else None
    if not isinstance(deployment_id, str) or not deployment_id:
        return {}
    service = payload.get("service")
    nested = service.get("id") if isinstance(service, Mapping) else None
    service_id = payload.get("service_id") or nested
    about = {"service_id": service_id[:100]} if isinstance(service_id, str) else {}
    return {"deployment_id": deployment_id[:100], **about}


def deploy_status(progress: Progress) -> dict[str, Json]:
    """The `deploy_status` payload. `error_message` repeats the error for control planes that read that field."""
    payload: dict[str, Json] = {
        "request_id": progress.request_id,
        "deployment_id": progress.deployment_id,
        "service_id": progress.service_id,
        "operation": progress.operation,
        "status": progress.state.value,
        "phase": progress.phase.value,
        "progress_percent": progress.percent,
        "message": progress.message,
        "started_at": format_secs(progress.started_at),
    }
    if progress.detail:
        payload["detail"] = progress.detail
    if progress.is_rolling_back and progress.finished_at is None:
        payload["rolling_back"] = True
    if progress.finished_at is not None:
        payload["finished_at"] = format_secs(progress.finished_at)
    if progress.container_id is not None:
        payload["container_id"] = progress.container_id
    if progress.logs:
        payload["logs"] = [line.message[:MAX_REPORT_LINE_CHARS] for line in progress.logs[-MAX_REPORT_LINES:]]
    if progress.failure is not None:
        failure = progress.failure
        # The contract gives the error of a report no other place for a text of the runtime.
        raw = {"stack": failure.details} if failure.details else {}
        payload["error"] = {"code": failure.code, "message": failure.message, **raw}
        payload["error_message"] = progress.failure.message
    return payload
