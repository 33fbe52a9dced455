"""The agent's ids: from the configuration, or generated once and kept in the data directory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import secrets
import socket
from pathlib import Path

from syntra.agent.config.settings import Settings
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

FILE_NAME = "identity.json"
MACHINE_ID = Path("/etc/machine-id")


@frozen
class AgentIds:
    """`owner` labels this agent's containers on the engine. It is not secret; the control plane never receives it."""

    agent_id: str
    server_id: str
    owner: str


def identify(settings: Settings, *, machine_id: Path = MACHINE_ID) -> AgentIds:
    """The agent's ids. Generated ids never change: they survive every network and control-plane error.

    The owner does not depend on the configured ids, so a standalone agent keeps its services when it enrolls. It is
    derived from machine and data directory, so an agent that lost the directory finds its containers again.
    """
    path = settings.data_dir / FILE_NAME
    kept = _read(path)
    ids = AgentIds(
        agent_id=settings.agent_id or kept.get("agent_id") or f"agt_{secrets.token_hex(8)}",
        server_id=settings.server_id or kept.get("server_id") or f"srv_{secrets.token_hex(8)}",
        owner=kept.get("owner") or _derived_owner(settings.data_dir, machine_id),
    )
    if dataclasses.asdict(ids) != kept:
        atomic_file.write(path, json.dumps(dataclasses.asdict(ids)).encode() + b"\n")
    return ids


def _derived_owner(data_dir: Path, machine_id: Path) -> str:
    try:
        machine = machine_id.read_text().strip()
    except OSError:
        machine = socket.gethostname()
    # machine-id(5): do not publish the id itself, only a hash of it with an application-specific value.
    return hashlib.sha256(f"syntra owner {machine} {data_dir.absolute()}".encode()).hexdigest()[:12]


def _read(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text())
        return {key: value for key in ("agent_id", "server_id", "owner") if isinstance(value := kept.get(key), str)}
    except FileNotFoundError:
        return {}
    except OSError as refused:
        raise AgentError(f"cannot read {path}: {refused.strerror}; check its owner") from refused
    except (ValueError, AttributeError):
        log.error("identity file is broken; a new identity is made", extra={"path": str(path)})
        return {}
