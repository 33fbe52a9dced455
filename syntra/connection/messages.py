"""The connection's own messages: builds hello, heartbeat, pong, unsupported; parses hello_ack, telemetry_ack. Pure.

Ids and timestamps are arguments. Other modules build and parse commands, deployments and telemetry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from syntra.connection.codec import Envelope
from syntra.utils.frozen import frozen

HELLO = "agent_hello"
HELLO_ACK = "hello_ack"
HEARTBEAT = "heartbeat"
PING = "ping"
PONG = "pong"

BINARY_TELEMETRY = "binary_telemetry"
"""The extension that allows binary frames: each is a `TelemetryFrame` of `proto/`."""
TELEMETRY_ACK = "telemetry_ack"
"""The extension, and the message with which the control plane acknowledges a batch of telemetry."""

LOG_LEVELS = frozenset({"debug", "info", "warning", "error"})
_LOG_LEVEL_ALIASES = {"trace": "debug", "warn": "warning", "fatal": "error", "critical": "error"}

MAX_REMOTE_TEXT = 300
"""How many characters of a peer's message are kept: enough for a sentence, too few to flood a log."""


def hello(payload: Mapping[str, Any], *, id: str, timestamp: str) -> Envelope:
    """The first frame of every connection."""
    return Envelope(id=id, type=HELLO, timestamp=timestamp, payload=payload)


def heartbeat(payload: Mapping[str, Any], *, id: str, timestamp: str) -> Envelope:
    """The periodic heartbeat. The peer's `pong` has the same id."""
    return Envelope(id=id, type=HEARTBEAT, timestamp=timestamp, payload=payload)


def pong(ping_id: str, *, timestamp: str) -> Envelope:
    """The answer to a `ping`, with the same id."""
    return Envelope(id=ping_id, type=PONG, timestamp=timestamp, payload={})


def unsupported(message_type: str, *, request_id: str, id: str, timestamp: str) -> Envelope:
    """The error answer to a message of a type that the agent does not know."""
    message = f"cannot handle a {readable(message_type)!r} message: this agent does not know the type; update the agent"
    payload = {"request_id": request_id, "success": False, "error": {"code": "UNSUPPORTED", "message": message}}
    return Envelope(id=id, type="command_response", timestamp=timestamp, payload=payload)


@frozen
class HelloAck:
    """The control plane's answer to hello.

    None in a configuration field means "missing or invalid": the agent keeps its own setting. `problems` are sentences
    about invalid fields, for the log. `reason` explains a refusal; "" when none was given.
    """

    accepted: bool = True
    reason: str = ""
    server_id: str = ""
    server_name: str = ""
    org_id: str = ""
    heartbeat_interval_secs: float | None = None
    telemetry_batch_interval_secs: float | None = None
    telemetry_buffer_max_mb: int | None = None
    log_level: str | None = None
    features: frozenset[str] = frozenset()
    pending_deployments: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = ()


def parse_hello_ack(payload: Mapping[str, Any]) -> HelloAck:
    """Parse a hello_ack payload. Never raises: invalid fields are skipped and named in `problems`."""
    problems: list[str] = []
    config = _mapping(payload.get("config"), "config", problems)
    interval = _number(config, "heartbeat_interval_seconds", 1, 300, problems)
    batch = _number(config, "telemetry_batch_interval_seconds", 1, 3600, problems)
    buffer = _number(config, "telemetry_buffer_max_mb", 1, 10_240, problems)
    return HelloAck(
        accepted=_accepted(payload.get("accepted"), problems),
        reason=next((readable(text) for key in ("reason", "message", "error") if (text := _text(payload, key))), ""),
        server_id=_text(payload, "server_id"),
        server_name=_text(payload, "server_name"),
        org_id=_text(payload, "org_id"),
        heartbeat_interval_secs=interval,
        telemetry_batch_interval_secs=batch,
        telemetry_buffer_max_mb=None if buffer is None else int(buffer),
        log_level=_log_level(config.get("log_level"), problems),
        features=frozenset(item for item in _items(config, "features", problems) if isinstance(item, str)),
        pending_deployments=_deployments(payload, problems),
        problems=tuple(problems),
    )


@frozen
class TelemetryAck:
    """The control plane's answer to a batch of telemetry: it is stored, or it must not be sent again.

    `error` explains a refusal; "" when no reason was given.
    """

    batch_id: str
    accepted: bool
    error: str = ""


def parse_telemetry_ack(payload: Mapping[str, Any]) -> TelemetryAck | None:
    """Parse a telemetry_ack payload. None without a batch id or a boolean `accepted`: neither may be guessed."""
    batch_id, accepted, error = _text(payload, "batch_id"), payload.get("accepted"), payload.get("error")
    if not batch_id or not isinstance(accepted, bool):
        return None
    if isinstance(error, dict):
        error = ": ".join(text for key in ("code", "message") if (text := _text(error, key)))
    return TelemetryAck(batch_id=batch_id, accepted=accepted, error=readable(error) if isinstance(error, str) else "")


def readable(text: str) -> str:
    """Make the peer's text safe for a log: one line, printable, at most MAX_REMOTE_TEXT characters."""
    line = "".join(char if char.isprintable() else " " for char in text[: MAX_REMOTE_TEXT + 1]).strip()
    return line if len(line) <= MAX_REMOTE_TEXT else line[: MAX_REMOTE_TEXT - 1] + "…"


def _accepted(value: object, problems: list[str]) -> bool:
    if value is None:
        return True
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    problems.append("accepted is not a boolean; taken as true")
    return True


def _number(config: Mapping[str, Any], key: str, low: int, high: int, problems: list[str]) -> float | None:
    value: object = config.get(key)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        problems.append(f"config.{key} is not a number; ignored")
        return None
    if not low <= value <= high:
        problems.append(f"config.{key} is outside {low} to {high}; ignored")
        return None
    return value


def _log_level(value: object, problems: list[str]) -> str | None:
    if value is None:
        return None
    level = value.strip().lower() if isinstance(value, str) else ""
    level = _LOG_LEVEL_ALIASES.get(level, level)
    if level not in LOG_LEVELS:
        problems.append("config.log_level is no level; ignored")
        return None
    return level


def _deployments(payload: Mapping[str, Any], problems: list[str]) -> tuple[Mapping[str, Any], ...]:
    items = _items(payload, "pending_deployments", problems)
    kept = tuple(item for item in items if isinstance(item, dict))
    if len(kept) < len(items):
        problems.append(f"{len(items) - len(kept)} of {len(items)} pending_deployments are not objects; ignored")
    return kept


def _items(mapping: Mapping[str, Any], key: str, problems: list[str]) -> list[Any]:
    value = mapping.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        problems.append(f"{key} is not a list; ignored")
        return []
    return value


def _mapping(value: object, name: str, problems: list[str]) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    if value is not None:
        problems.append(f"{name} is not an object; ignored")
    return {}


def _text(payload: Mapping[str, Any], key: str) -> str:
    value = payload.get(key)
    return value if isinstance(value, str) else ""
