"""What the tests of several verbs share: answers of an agent, and a terminal."""

from __future__ import annotations

import io
from typing import Any

from tests.cli.fake_agent import SERVICE

DETAILED: dict[str, Any] = {
    **SERVICE,
    "configured_replicas": 3,
    "age_seconds": 90061,
    "ports": ["80:8080"],
    "urls": ["https://api.example", "https://www.example", "https://c.example"],
    "has_check": True,
    "containers": [
        {
            "replica": number,
            "container_name": f"syn-svc_shop_api-dep_{number}",
            "place": f"10.0.0.{number}",
            "status": "running",
            "health": health,
            "has_check": True,
            "restart_count": 3,
            "cpu_percent": 12.5,
            "memory_mb": 64.0,
            "age_seconds": 59,
            "deployment_id": "dep_1",
        }
        for number, health in ((1, "healthy"), (2, "unknown"))
    ],
}


def stopped(replicas: int = 3) -> dict[str, Any]:
    return {**SERVICE, "status": "stopped", "replicas": {"desired": 0, "running": 0}, "configured_replicas": replicas}


RUNNING = {"status": "running", "phase": "cleanup", "progress_percent": 100, "message": "2 replicas serve"}


class Terminal(io.StringIO):
    """What calls itself a terminal."""

    def isatty(self) -> bool:
        return True
