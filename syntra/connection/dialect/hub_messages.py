"""Translates the agent's messages for the deployed hub.

The hub stores every status that it does not know as `running`, and announces a success. Only a `deploy_status` ends the
row of a deployment. The end of an alert counts as one more alert.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from syntra.connection.codec import Envelope

Payload = Mapping[str, Any]

STATUSES = frozenset({"pulling", "creating", "starting", "running", "failed", "building", "deploying", "stopped"})
"""The statuses that the hub knows. `rolled_back` becomes `failed`; all others are dropped."""
ALREADY_DEPLOYED = "ALREADY_DEPLOYED"
"""The error code of a cancel that came too late: the deployment is running."""
_WITHOUT_A_REASON = "the deployment failed; see the agent's log"


def translated(message: Envelope) -> Sequence[Envelope]:
    """The frames to send to the hub."""
    match message.type:
        case "deploy_status":
            return _status(message)
        case "command_response":
            return (message, *_end_of_row(message))
        case "alert" if _mapping(message.payload.get("metadata")).get("recovered") is True:
            return ()
    return (message,)


def _status(message: Envelope) -> Sequence[Envelope]:
    payload = message.payload
    # The hub would store the result of a scale as the state of the deployment, which keeps running.
    if payload.get("operation") == "scale":
        return ()
    status = "failed" if payload.get("status") == "rolled_back" else payload.get("status")
    if not isinstance(status, str) or status not in STATUSES:
        return ()
    if status == "failed":
        payload = {**payload, "status": status, "error_message": _reason(payload)}
    return (Envelope(id=message.id, type=message.type, timestamp=message.timestamp, payload=payload),)


def _reason(payload: Payload) -> str:
    told = (payload.get("error_message"), _mapping(payload.get("error")).get("message"), payload.get("message"))
    return next((text for text in told if isinstance(text, str) and text), _WITHOUT_A_REASON)


def _end_of_row(message: Envelope) -> Sequence[Envelope]:
    """The status that ends the row of a refused deployment: the hub does not read the refusal."""
    error = _mapping(message.payload.get("error"))
    details = _mapping(error.get("details"))
    deployment_id = details.get("deployment_id")
    if message.payload.get("success") is not False or not isinstance(deployment_id, str) or not deployment_id:
        return ()
    runs = error.get("code") == ALREADY_DEPLOYED
    service_id = details.get("service_id")
    payload: dict[str, Any] = {
        "deployment_id": deployment_id,
        # Required by the contract; the hub does not read it.
        "service_id": service_id if isinstance(service_id, str) and service_id else "unknown",
        "status": "running" if runs else "failed",
        "phase": "cleanup" if runs else "pull_image",
        "progress_percent": 100 if runs else 0,
        "message": _reason(error),
        "started_at": message.timestamp,
        "finished_at": message.timestamp,
    }
    if not runs:
        payload["error"] = {"code": str(error.get("code", "")), "message": _reason(error)}
        payload["error_message"] = _reason(error)
    return (Envelope(id=_derived(message.id), type="deploy_status", timestamp=message.timestamp, payload=payload),)


def _derived(message_id: str) -> str:
    """An id in UUID form, the same every time the message is sent."""
    digits = hashlib.sha256(f"{message_id}/deploy_status".encode(errors="replace")).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _mapping(value: object) -> Payload:
    return value if isinstance(value, dict) else {}
