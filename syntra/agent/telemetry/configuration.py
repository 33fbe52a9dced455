"""The configuration that the agent sends to the telemetry process; `settings` there parses it. Pure."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

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
        "logging": {**_payload(settings.logging), "secrets": [*header_secrets(settings.telemetry.export.headers)]},
    }


def header_secrets(headers: str | None) -> list[str]:
    """What must not appear in a log: the headers of the export, as written and as sent, and their words."""
    if headers is None:
        return []
    values = [item.partition("=")[2] for item in headers.split(",")]
    # Of `Bearer x`, libraries and peers repeat `x`.
    return sorted({text for value in values for text in (value, unquote(value), *unquote(value).split()) if text})


def _payload(section: Any) -> dict[str, Json]:
    return {one.name: _value(getattr(section, one.name), "section" in one.metadata) for one in fields(section)}


def _value(value: Any, is_section: bool) -> Json:
    if is_section:
        return _payload(value)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
