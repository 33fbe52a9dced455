"""The checker of the contract's shapes lets pass what the contract allows, and nothing else."""

from __future__ import annotations

import base64
import copy
import json
import uuid
from typing import Any

import pytest
import zstandard

from tests.contract import shapes

STAMP = "2026-01-02T03:04:05.678Z"

GOOD: dict[str, dict[str, Any]] = {
    "agent_hello": {
        "agent_id": "agt_1",
        "server_id": "srv_1",
        "version": "1.0.0",
        "runtime": "docker",
        "runtime_version": "27.0.1",
        "os": {"name": "Debian", "version": "12", "kernel": "6.1"},
        "arch": "x86_64",
        "resources": {"cpu_cores": 2, "cpu_model": "a cpu", "memory_total_mb": 4000, "disk_total_gb": 50},
        "network": {"hostname": "web-1", "public_ip": None, "private_ip": "10.0.0.2"},
        "capabilities": ["deploy"],
        "protocol_version": "1.0",
        "min_supported": "1.0",
    },
    "heartbeat": {
        "agent_id": "agt_1",
        "timestamp": STAMP,
        "uptime_seconds": 5,
        "resources": {
            "cpu_usage_percent": 12.5,
            "memory_used_mb": 1,
            "memory_available_mb": 2,
            "disk_used_gb": 3,
            "disk_available_gb": 4,
            "network_rx_bytes": 5,
            "network_tx_bytes": 6,
        },
        "containers": {"running": 1, "stopped": 0, "total": 1},
        "services": [
            {
                "service_id": "svc_1",
                "container_id": "c1",
                "status": "running",
                "health": "healthy",
                "cpu_percent": 1.5,
                "memory_mb": 20,
                "restart_count": 0,
                "started_at": STAMP,
            }
        ],
    },
    "command_response": {"request_id": "r1", "success": True, "data": {}},
    "deploy_status": {
        "deployment_id": "d1",
        "service_id": "svc_1",
        "status": "failed",
        "phase": "pull_image",
        "progress_percent": 10,
        "message": "cannot pull",
        "started_at": STAMP,
        "finished_at": STAMP,
        "error": {"code": "PULL_FAILED", "message": "cannot pull"},
        "error_message": "cannot pull",
    },
    "alert": {
        "alert_id": "a1",
        "server_id": "srv_1",
        "type": "container_crash",
        "severity": "critical",
        "title": "t",
        "message": "m",
        "timestamp": STAMP,
        "metadata": {},
    },
    "log_stream": {
        "request_id": "r1",
        "service_id": "svc_1",
        "logs": [{"timestamp": "2026-01-02T03:04:05.123456789Z", "stream": "stdout", "message": ""}],
        "done": False,
    },
    "telemetry_batch": {
        "batch_id": "bat_1",
        "agent_id": "agt_1",
        "compression": "none",
        "data": {
            **{kind: [] for kind in ("errors", "traces", "logs", "metrics")},
            "health_checks": [
                {
                    "service_id": "svc_1",
                    "timestamp": STAMP,
                    "is_healthy": False,
                    "response_time_ms": 1.5,
                    "status_code": 503,
                    "error": "it answered 503",
                }
            ],
        },
    },
    "pong": {},
}

# One field of a good payload changed: type, path, value (`...` removes it).
BAD: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("agent_hello", ("agent_id",), "1"),
    ("agent_hello", ("runtime",), "podman"),
    ("agent_hello", ("resources", "cpu_cores"), "2"),
    ("agent_hello", ("network", "public_ip"), ...),
    ("agent_hello", ("capabilities", 0), 5),
    ("agent_hello", ("protocol_version",), 1.0),
    ("heartbeat", ("resources", "cpu_usage_percent"), 100.5),
    ("heartbeat", ("resources", "memory_used_mb"), 1.5),
    ("heartbeat", ("containers", "total"), 2),
    ("heartbeat", ("timestamp",), "2026-01-02 03:04:05"),
    ("heartbeat", ("services", 0, "status"), "created"),
    ("heartbeat", ("services", 0, "started_at"), None),
    ("heartbeat", ("services", 0, "restart_count"), ...),
    ("command_response", ("success",), "true"),
    ("command_response", ("request_id",), ""),
    ("command_response", ("success",), False),
    ("command_response", ("error",), {"code": "NO", "message": "m"}),
    ("deploy_status", ("phase",), "pulling"),
    ("deploy_status", ("progress_percent",), 101),
    ("deploy_status", ("finished_at",), ...),
    ("deploy_status", ("error_message",), ...),
    ("deploy_status", ("error", "code"), "pull failed"),
    ("deploy_status", ("container_id",), None),
    ("deploy_status", ("status",), "running"),
    ("deploy_status", ("surprise",), 1),
    ("alert", ("severity",), "info"),
    ("alert", ("service_id",), None),
    ("log_stream", ("logs", 0, "timestamp"), ""),
    ("log_stream", ("logs", 0, "stream"), "system"),
    ("log_stream", ("done",), ...),
    ("telemetry_batch", ("compression",), "gzip"),
    ("telemetry_batch", ("data", "traces"), ...),
    ("telemetry_batch", ("data", "health_checks", 0, "is_healthy"), 1),
    ("telemetry_batch", ("data", "health_checks", 0, "status_code"), None),
]


def frame(kind: str, payload: dict[str, Any], **changes: Any) -> str:
    return json.dumps({"id": str(uuid.uuid4()), "type": kind, "timestamp": STAMP, "payload": payload, **changes})


@pytest.mark.parametrize("kind", GOOD)
def test_what_the_contract_allows_passes(kind: str) -> None:
    assert shapes.problems(frame(kind, GOOD[kind])) == []


@pytest.mark.parametrize(("kind", "path", "value"), BAD)
def test_a_wrong_field_is_named(kind: str, path: tuple[str | int, ...], value: Any) -> None:
    payload: Any = copy.deepcopy(GOOD[kind])
    target = payload
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    assert shapes.problems(frame(kind, payload)) != []


def test_every_type_has_a_good_example() -> None:
    assert GOOD.keys() == shapes.PAYLOADS.keys()


WRONG_FRAMES: dict[str, str | bytes] = {
    "binary": b"{}",
    "cut": "{",
    "no object": "[]",
    "no id": frame("pong", {}, id=""),
    "no time": frame("pong", {}, timestamp="now"),
    "unknown type": frame("telemetry", {}),
    "id is no UUID": frame("alert", GOOD["alert"], id="1"),
    "more than an envelope": frame("pong", {}, extra=1),
    "NaN": '{"id": "1", "type": "pong", "timestamp": "2026-01-02T03:04:05Z", "payload": {"a": NaN}}',
}


@pytest.mark.parametrize("name", WRONG_FRAMES)
def test_a_wrong_envelope_is_named(name: str) -> None:
    assert shapes.problems(WRONG_FRAMES[name]) != []


def test_telemetry_of_the_buffer_is_packed() -> None:
    def found(data: object, raw: bytes | None = None) -> list[str]:
        packed = base64.b64encode(zstandard.compress(json.dumps(data).encode() if raw is None else raw)).decode()
        payload = {"batch_id": "bat_1", "agent_id": "agt_1", "compression": "zstd", "data": packed}
        return list(shapes.TELEMETRY_BATCH(payload, "telemetry_batch"))

    lists: dict[str, list[object]] = {"errors": [], "traces": [{}], "logs": [], "metrics": [], "health_checks": []}
    assert found(lists) == []
    assert found({**lists, "traces": [1]}) != []
    assert found({**lists, "health_checks": [{}]}) != []
    assert found({**lists, "more": []}) != []
    assert found(None, b"no JSON") != []
