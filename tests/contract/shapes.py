"""What an agent may send, by the tables of the wire contract 1.0: a strict checker, independent of the product's code.

`problems` gives a list of sentences about one frame; empty means that it keeps the contract. Fields that the contract
does not name are reported too, unless they are listed here as additions (a control plane ignores those).
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import zstandard

Check = Callable[[object, str], Iterator[str]]

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{2,63}")

TERMINAL = frozenset({"running", "failed", "rolled_back"})


def text(value: object, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{path}: {value!r} is not text"


def filled(value: object, path: str) -> Iterator[str]:
    yield from text(value, path)
    if value == "":
        yield f"{path}: is empty"


def stamp(value: object, path: str) -> Iterator[str]:
    """ISO 8601 in UTC."""
    if not isinstance(value, str) or _STAMP.fullmatch(value) is None:
        yield f"{path}: {value!r} is not an ISO 8601 time in UTC"
        return
    try:
        datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value).replace("Z", "+00:00"))
    except ValueError:
        yield f"{path}: {value!r} is no time"


def flag(value: object, path: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f"{path}: {value!r} is not true or false"


def whole(low: int = 0, high: int = 2**63) -> Check:
    def check(value: object, path: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            yield f"{path}: {value!r} is not a whole number from {low} to {high}"

    return check


def number(low: float = 0, high: float = float(2**63)) -> Check:
    def check(value: object, path: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            yield f"{path}: {value!r} is not a number from {low} to {high}"

    return check


def one_of(*words: str) -> Check:
    def check(value: object, path: str) -> Iterator[str]:
        if value not in words:
            yield f"{path}: {value!r} is none of {', '.join(words)}"

    return check


def exactly(wanted: object) -> Check:
    def check(value: object, path: str) -> Iterator[str]:
        if value != wanted:
            yield f"{path}: {value!r} is not {wanted!r}"

    return check


def starting(prefix: str) -> Check:
    def check(value: object, path: str) -> Iterator[str]:
        if not isinstance(value, str) or not value.startswith(prefix) or value == prefix:
            yield f"{path}: {value!r} does not start with {prefix}"

    return check


def or_null(inner: Check) -> Check:
    def check(value: object, path: str) -> Iterator[str]:
        if value is not None:
            yield from inner(value, path)

    return check


def each(inner: Check) -> Check:
    def check(value: object, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{path}: {value!r} is not a list"
            return
        for number_, item in enumerate(value):
            yield from inner(item, f"{path}[{number_}]")

    return check


def mapping(value: object, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is not an object"


def shape(
    required: Mapping[str, Check], optional: Mapping[str, Check] | None = None, added: Mapping[str, Check] | None = None
) -> Check:
    """An object. `optional` fields may be absent, never null; `added` ones the contract does not know."""
    maybe = {**(optional or {}), **(added or {})}

    def check(value: object, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is not an object"
            return
        for key, inner in required.items():
            if key not in value:
                yield f"{path}.{key}: is missing"
            else:
                yield from inner(value[key], f"{path}.{key}")
        for key in value.keys() - required.keys():
            if key not in maybe:
                yield f"{path}.{key}: is not in the contract"
            else:
                yield from maybe[key](value[key], f"{path}.{key}")

    return check


def code(value: object, path: str) -> Iterator[str]:
    if not isinstance(value, str) or _CODE.fullmatch(value) is None:
        yield f"{path}: {value!r} is not an error code"


ERROR = shape({"code": code, "message": filled}, {"details": mapping})

HELLO = shape(
    {
        "agent_id": starting("agt_"),
        "server_id": starting("srv_"),
        "version": filled,
        "runtime": one_of("docker", "kubernetes"),
        "runtime_version": filled,
        "os": shape({"name": filled, "version": text, "kernel": filled}),
        "arch": one_of("x86_64", "aarch64"),
        "resources": shape(
            {"cpu_cores": whole(1), "cpu_model": text, "memory_total_mb": whole(1), "disk_total_gb": whole(1)}
        ),
        "network": shape({"hostname": filled, "public_ip": or_null(filled), "private_ip": filled}),
        "capabilities": each(filled),
        "protocol_version": exactly("1.0"),
        "min_supported": exactly("1.0"),
    },
    added={"update": mapping, "runtime_product": filled, "runtime_reason": filled},
)

SERVICE_STATUS = shape(
    {
        "service_id": filled,
        "container_id": filled,
        "status": one_of("running", "stopped", "restarting", "error"),
        "health": one_of("healthy", "unhealthy", "unknown"),
        "cpu_percent": number(),
        "memory_mb": number(),
        "restart_count": whole(),
        # A container that was never started has no such time.
        "started_at": or_null(stamp),
    },
    added={"container_name": filled, "deployment_id": filled},
)

HEARTBEAT = shape(
    {
        "agent_id": starting("agt_"),
        "timestamp": stamp,
        "uptime_seconds": whole(),
        "resources": shape(
            {
                "cpu_usage_percent": number(0, 100),
                "memory_used_mb": whole(),
                "memory_available_mb": whole(),
                "disk_used_gb": whole(),
                "disk_available_gb": whole(),
                "network_rx_bytes": whole(),
                "network_tx_bytes": whole(),
            }
        ),
        "containers": shape({"running": whole(), "stopped": whole(), "total": whole()}),
        "services": each(SERVICE_STATUS),
    }
)

COMMAND_RESPONSE = shape({"request_id": filled, "success": flag}, {"error": ERROR, "data": mapping})

DEPLOY_STATUS = shape(
    {
        "deployment_id": filled,
        "service_id": filled,
        "status": one_of(
            "pending", "pulling", "creating", "starting", "health_checking", "running", "failed", "rolled_back"
        ),
        "phase": one_of(
            "pull_image",
            "stop_old",
            "create_container",
            "start_container",
            "configure_network",
            "health_check",
            "cleanup",
        ),
        "progress_percent": whole(0, 100),
        "message": filled,
        "started_at": stamp,
    },
    {
        "finished_at": stamp,
        "logs": each(text),
        "container_id": filled,
        "error": shape({"code": code, "message": filled}, {"stack": text}),
        "error_message": filled,
    },
    added={"request_id": filled, "operation": one_of("deploy", "rollback", "scale")},
)

ALERT = shape(
    {
        "alert_id": filled,
        "server_id": starting("srv_"),
        "type": one_of("health_check_failed", "resource_critical", "container_crash", "deployment_failed"),
        "severity": one_of("warning", "critical"),
        "title": filled,
        "message": filled,
        "timestamp": stamp,
        "metadata": mapping,
    },
    {"service_id": filled},
)

LOG_STREAM = shape(
    {
        "request_id": filled,
        "service_id": filled,
        "logs": each(
            shape(
                {"timestamp": stamp, "stream": one_of("stdout", "stderr"), "message": text},
                added={"replica": whole(1, 1000), "truncated": flag},
            )
        ),
        "done": flag,
    }
)

_LISTS = ("errors", "traces", "logs", "metrics")
_BATCH = {"batch_id": filled, "agent_id": starting("agt_")}
_HEALTH_BATCH = shape(
    {
        **_BATCH,
        # Not compressed, so `data` is the object itself.
        "compression": exactly("none"),
        "data": shape(
            {
                **{kind: exactly([]) for kind in _LISTS},
                "health_checks": each(
                    shape(
                        {"service_id": filled, "timestamp": stamp, "is_healthy": flag, "response_time_ms": number()},
                        {"status_code": whole(100, 999), "error": filled},
                    )
                ),
            }
        ),
    }
)


def _packed(value: object, path: str) -> Iterator[str]:
    """TelemetryData from the buffer: its items are those of tests/telemetry/shipping/test_contract.py."""
    try:
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(base64.b64decode(str(value), validate=True))
        data = json.loads(raw)
    except (ValueError, zstandard.ZstdError) as error:
        yield f"{path}: is not the base64 of zstd of JSON: {error}"
        return
    yield from shape({**{kind: each(mapping) for kind in _LISTS}, "health_checks": exactly([])})(data, path)


_PACKED_BATCH = shape({**_BATCH, "compression": exactly("zstd"), "data": _packed})


_HUB_SERVER = shape(
    {
        **{f"{name}_percent": number(0, 100) for name in ("cpu", "memory", "disk")},
        **{name: whole() for name in ("cpu_cores", "memory_used_mb", "memory_total_mb", "disk_used_gb")},
        **{name: whole() for name in ("disk_total_gb", "network_rx_bytes_per_sec", "network_tx_bytes_per_sec")},
        **{f"load_avg_{span}": number() for span in ("1m", "5m", "15m")},
        **{name: whole() for name in ("uptime_seconds", "container_count")},
    }
)
_HUB_CONTAINER = shape(
    {
        **dict.fromkeys(("container_id", "container_name", "service_id", "status"), filled),
        "timestamp": stamp,
        **{name: number() for name in ("cpu_percent", "memory_used_mb", "memory_limit_mb", "memory_percent")},
        **{f"network_{way}_bytes": whole() for way in ("rx", "tx")},
        **{f"block_{way}_bytes": whole() for way in ("read", "write")},
        "pids": whole(),
    }
)
_HUB_BATCH = shape(
    {**_BATCH, "compression": exactly("none"), "logs": each(mapping), "events": each(mapping)},
    {"metrics": shape({}, {"server": _HUB_SERVER, "containers": each(_HUB_CONTAINER)})},
)
"""What the deployed hub reads instead of `data`."""


def TELEMETRY_BATCH(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict) and "data" not in value and "logs" in value:
        yield from _HUB_BATCH(value, path)
        return
    is_packed = isinstance(value, dict) and value.get("compression") == "zstd"
    yield from (_PACKED_BATCH if is_packed else _HEALTH_BATCH)(value, path)


EXEC_DATA = shape(
    {"exit_code": whole(-(2**31), 2**31), "stdout": text, "stderr": text},
    added={"truncated": flag, "encoding": one_of("base64"), "output_forgotten": flag},
)
"""`command_response.data` of an exec; the others' data is free."""

PAYLOADS: Mapping[str, Check] = {
    "agent_hello": HELLO,
    "heartbeat": HEARTBEAT,
    "command_response": COMMAND_RESPONSE,
    "deploy_status": DEPLOY_STATUS,
    "alert": ALERT,
    "log_stream": LOG_STREAM,
    "telemetry_batch": TELEMETRY_BATCH,
    "pong": mapping,
}

ENVELOPE = shape({"id": filled, "type": one_of(*PAYLOADS), "timestamp": stamp, "payload": mapping})


def problems(frame: str | bytes) -> list[str]:
    """What is wrong with one frame as it came over the wire."""
    if isinstance(frame, bytes):
        return ["a binary frame; contract 1.0 has text frames only"]
    try:
        message = json.loads(frame, parse_constant=_refuse)
    except ValueError as error:
        return [f"not JSON: {error}"]
    found = list(ENVELOPE(message, "frame"))
    if found:
        return found
    kind, payload = message["type"], message["payload"]
    found += PAYLOADS[kind](payload, kind)
    if kind != "pong":
        found += _uuid(message["id"])
    if not found:
        found += _relations(kind, payload)
    return found


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _uuid(value: str) -> Iterator[str]:
    # A pong's id is the ping's; every other id is the agent's own.
    try:
        uuid.UUID(value)
    except ValueError:
        yield f"frame.id: {value!r} is no UUID"


def _relations(kind: str, payload: Mapping[str, Any]) -> Iterator[str]:
    """What holds between the fields of a payload whose fields are each right."""
    match kind:
        case "command_response":
            if payload["success"] and "error" in payload:
                yield "command_response: a success with an error"
            if not payload["success"] and "error" not in payload:
                yield "command_response: a refusal without an error"
        case "deploy_status":
            yield from _status_relations(payload)
        case "heartbeat":
            counts = payload["containers"]
            if counts["running"] + counts["stopped"] != counts["total"]:
                yield f"heartbeat.containers: {counts} do not add up"
            for item in payload["services"]:
                if item["status"] == "running" and item["started_at"] is None:
                    yield f"heartbeat.services: {item['container_id']} runs and was never started"


def _status_relations(payload: Mapping[str, Any]) -> Iterator[str]:
    status = payload["status"]
    if (status in TERMINAL) != ("finished_at" in payload):
        yield f"deploy_status: finished_at and status {status} contradict each other"
    if (status in {"failed", "rolled_back"}) != ("error" in payload):
        yield f"deploy_status: error and status {status} contradict each other"
    if ("error" in payload) != ("error_message" in payload):
        yield "deploy_status: error and error_message come together or not at all"
    if status == "running" and payload["progress_percent"] != 100:
        yield "deploy_status: running below 100 percent"
