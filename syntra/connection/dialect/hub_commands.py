"""Translates frames of the deployed hub to the agent's commands, and recognises the hub by them.

Payloads are untrusted: a field of an unexpected shape is passed on unchanged, and the command parser refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from syntra.connection.codec import Envelope

Payload = Mapping[str, Any]

DEFAULT_PORT = 3000
DEFAULT_PATH = "/"
DEFAULT_INTERVAL_SECS = 30
"""The defaults of the hub's own schema, for keys that it leaves out. An explicit null means: none."""

LONGEST_EXEC_SECS = 1000
"""The hub sends `exec.timeout` in milliseconds or in seconds, without a unit. From this value on: milliseconds."""
CONTRACT_EXEC_SECS = 3600
"""The longest exec of the contract. A greater timeout cannot be in seconds."""

_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d|w)){1,6}", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def is_hubs(message: Envelope) -> bool:
    """Whether only the hub sends such a frame."""
    payload = message.payload
    if message.type in _RENAMED:
        return True
    match message.type:
        case "stop":
            return _names_deployment_only(payload)
        case "deploy":
            service = _mapping(payload.get("service"))
            own = "source_type" in service or isinstance(payload.get("git"), dict)
            return own or _is_reference(_mapping(payload.get("docker")).get("tag"))
        case "exec":
            timeout = payload.get("timeout")
            return "timeout_seconds" not in payload and _number(timeout) > CONTRACT_EXEC_SECS
        case "logs" | "logs_subscribe":
            return any(_duration(payload.get(key)) is not None for key in ("since", "until"))
    return False


def command(kind: str, payload: Payload, now: float) -> tuple[str, Payload]:
    """The kind and payload of the command that a frame becomes. `now` is epoch seconds."""
    if kind in _RENAMED:
        return _RENAMED[kind](payload)
    match kind:
        case "deploy":
            return kind, _deploy(payload)
        case "rollback":
            return kind, _paired(payload)
        case "stop":
            return _stop(payload)
        case "exec":
            return kind, _exec(payload)
        case "logs" | "logs_subscribe":
            return kind, _logs(payload, now)
    return kind, payload


def _deploy(payload: Payload) -> Payload:
    # Its deploys name no project, so the services of all its projects share one.
    changed = {"on_name_conflict": "rename", **_paired(payload)}
    if isinstance(docker := changed.get("docker"), dict):
        changed["docker"] = _paired(docker)
    if isinstance(service := changed.get("service"), dict):
        changed["service"] = _with_defaults(service)
    return changed


def _paired(pair: Payload) -> Payload:
    """`image` and `tag`, repaired: when the tag is a whole reference, `image` is only the service's name."""
    if isinstance(pair.get("image"), dict) or not _is_reference(pair.get("tag")):
        return pair
    return {**{key: value for key, value in pair.items() if key != "tag"}, "image": pair["tag"]}


def _with_defaults(service: Payload) -> Payload:
    filled = {"port": DEFAULT_PORT, **service}
    if isinstance(check := service.get("health_check"), dict):
        filled["health_check"] = {"path": DEFAULT_PATH, "interval_seconds": DEFAULT_INTERVAL_SECS, **check}
        if "interval" in check and "interval_seconds" not in check:
            del filled["health_check"]["interval_seconds"]
    return filled


def _stop(payload: Payload) -> tuple[str, Payload]:
    if _names_deployment_only(payload):
        return "stop_deployment", payload
    if payload.get("reason") == "service_deleted":
        # The hub forgets the service, so it cannot remove the containers later.
        return "stop", {"remove_container": True, **payload}
    return "stop", payload


def _exec(payload: Payload) -> Payload:
    timeout = payload.get("timeout")
    if payload.get("timeout_seconds") is not None or _number(timeout) < LONGEST_EXEC_SECS:
        return payload
    return {**payload, "timeout": _number(timeout) / 1000}


def _logs(payload: Payload, now: float) -> Payload:
    changed = dict(payload)
    for key in ("since", "until"):
        ago = _duration(payload.get(key))
        if ago is not None:
            changed[key] = f"{max(0.0, now - ago):.3f}"
    return changed


def _container_restart(payload: Payload) -> tuple[str, Payload]:
    return "restart_container", payload


def _container_stop(payload: Payload) -> tuple[str, Payload]:
    return "stop_container", payload


def _cancel_deploy(payload: Payload) -> tuple[str, Payload]:
    return "cancel", payload


def _traffic_switch(payload: Payload) -> tuple[str, Payload]:
    return "switch_traffic", _renamed(payload, "active_deployment_id", "deployment_id")


def _traffic_split(payload: Payload) -> tuple[str, Payload]:
    changed = _renamed(payload, "canary_deployment_id", "deployment_id")
    return "split_traffic", _renamed(changed, "weight", "percent")


def _deploy_certificate(payload: Payload) -> tuple[str, Payload]:
    return "install_certificate", payload


_RENAMED: Mapping[str, Callable[[Payload], tuple[str, Payload]]] = {
    "container_restart": _container_restart,
    "container_stop": _container_stop,
    "stop_container": _container_stop,
    "cancel_deploy": _cancel_deploy,
    "traffic_switch": _traffic_switch,
    "traffic_split": _traffic_split,
    "deploy_certificate": _deploy_certificate,
}


def _renamed(payload: Payload, old: str, new: str) -> Payload:
    return {new if key == old else key: value for key, value in payload.items()}


def _names_deployment_only(payload: Payload) -> bool:
    return payload.get("service_id") is None and isinstance(payload.get("deployment_id"), str)


def _is_reference(tag: object) -> bool:
    return isinstance(tag, str) and any(mark in tag for mark in "/:@")


def _duration(value: object) -> float | None:
    """The seconds of `1h` or `1h30m`; None for anything else, such as a time."""
    if not isinstance(value, str) or _DURATION.fullmatch(value) is None:
        return None
    parts: list[tuple[str, str]] = _PART.findall(value)
    return sum(float(digits) * _UNITS[unit] for digits, unit in parts)


def _number(value: object) -> float:
    # An integer of hundreds of digits is one in JSON, and no float.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        return 0.0
    return float(value)


def _mapping(value: object) -> Payload:
    return value if isinstance(value, dict) else {}
