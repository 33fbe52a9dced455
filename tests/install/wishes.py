"""A wish and a machine that fit each other, to vary in tests."""

from __future__ import annotations

from typing import Any

from syntra.install import places
from syntra.install.observed import FileSeen, Manager, Observed
from syntra.install.plan import Wanted
from syntra.install.systemd_unit import unit

TOKEN = "syn_agt_canary-of-the-token"
ENDPOINT = "wss://cp.example.com/agent/ws"
BOOT_CHECK = "#!/bin/sh\nexit 0\n"


def wanted(**changes: Any) -> Wanted:
    """Version 1.2.0 for a control plane."""
    values: dict[str, Any] = {
        "version": "1.2.0",
        "boot_check": BOOT_CHECK,
        "fresh_agent_id": "agt_fresh",
        "fresh_server_id": "srv_fresh",
        "endpoint": ENDPOINT,
        "token": TOKEN,
    }
    return Wanted(**values | changes)


def empty(**changes: Any) -> Observed:
    """A machine with systemd 252 and an engine, without an agent."""
    values: dict[str, Any] = {"manager": Manager.SYSTEMD, "systemd_version": 252, "has_engine": True}
    return Observed(**values | changes)


def installed(**changes: Any) -> Observed:
    """The machine after `wanted()` was installed and started."""
    values: dict[str, Any] = {
        "files": {
            places.CONFIGURATION: FileSeen(content=b"", mode=0o600),
            places.TOKEN: FileSeen(content=f"{TOKEN}\n".encode(), mode=0o600),
            places.BOOT_CHECK: FileSeen(content=BOOT_CHECK.encode(), mode=0o755),
            places.UNIT: FileSeen(content=unit(252).encode(), mode=0o644),
        },
        "directories": {"/etc/syntra": 0o755, places.DATA: 0o700, places.CACHE: 0o700, places.OPT: 0o755},
        "links": {places.COMMAND: places.PROGRAM},
        "current": "1.2.0",
        "has_same_program": True,
        "is_enabled": True,
        "is_active": True,
        "configured": {"endpoint": ENDPOINT, "server_id": "srv_fresh"},
    }
    return empty(**values | changes)
