"""What the telemetry process is told about the agent's configuration: the other half of its `settings`. Pure."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from syntra.agent.config.settings import Settings
from syntra.model.fields import Json


def configuration(settings: Settings, *, agent_id: str, server_id: str) -> dict[str, Json]:
    """The fields of `configure`. They hold the headers of the export, so they never appear in a log."""
    return {
        "data_dir": str(settings.data_dir),
        "agent_id": agent_id,
        "server_id": server_id,
        "has_control_plane": settings.control_plane is not None,
        "telemetry": _payload(settings.telemetry),
    }


def _payload(section: Any) -> dict[str, Json]:
    return {one.name: _value(getattr(section, one.name), "section" in one.metadata) for one in fields(section)}


def _value(value: Any, is_section: bool) -> Json:
    if is_section:
        return _payload(value)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
