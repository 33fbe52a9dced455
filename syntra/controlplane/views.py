"""Records in the form of the API."""

from __future__ import annotations

from syntra.controlplane.certificates import CertificateRecord
from syntra.controlplane.records import Command, CommandState, Deployment, Entry, LogLine, Server


def server_view(server: Server, connected_at: str | None) -> dict[str, object]:
    """A server. `connected_at` is None when it is not connected."""
    heartbeat = dict(server.heartbeat or {})
    return {
        "server_id": server.server_id,
        "name": server.name,
        "created_at": server.created_at,
        "connected": connected_at is not None,
        "connected_at": connected_at,
        "hello": dict(server.hello) if server.hello is not None else None,
        "hello_at": server.hello_at,
        "last_heartbeat_at": server.heartbeat_at,
        "services": heartbeat.pop("services", []),
        "heartbeat": heartbeat or None,
        "telemetry": {"batches": server.telemetry_batches, "bytes": server.telemetry_bytes},
        "ignored_messages": server.ignored_messages,
    }


def certificate_view(record: CertificateRecord) -> dict[str, object]:
    """The record of a client certificate."""
    return {
        "serial": record.serial,
        "issued_at": record.issued_at,
        "not_after": record.not_after,
        "used_at": record.used_at,
    }


def command_view(command: Command, state: CommandState) -> dict[str, object]:
    """A command, without its payload."""
    view: dict[str, object] = {
        "request_id": command.request_id,
        "server_id": command.server_id,
        "type": command.type,
        "state": state.value,
        "created_at": command.created_at,
        "answered_at": command.answered_at,
        "response": command.response,
    }
    if command.deployment_id is not None:
        view["deployment_id"] = command.deployment_id
    return view


def deployment_view(deployment: Deployment, command: Command | None, state: CommandState | None) -> dict[str, object]:
    """A deployment without its events, and the state of its command."""
    return {
        "deployment_id": deployment.deployment_id,
        "server_id": deployment.server_id,
        "service_id": deployment.service_id,
        "status": deployment.status.value if deployment.status is not None else None,
        "command": command_view(command, state) if command is not None and state is not None else None,
        "created_at": deployment.created_at,
        "updated_at": deployment.updated_at,
    }


def event_view(event: Entry) -> dict[str, object]:
    """One report about a deployment."""
    return {**event.payload, "received_at": event.received_at}


def alert_view(alert: Entry) -> dict[str, object]:
    """One alert."""
    return {**alert.payload, "seq": alert.seq, "received_at": alert.received_at}


def log_line_view(line: LogLine) -> dict[str, object]:
    """One log line."""
    return {"seq": line.seq, "timestamp": line.timestamp, "stream": line.stream, "message": line.message}
