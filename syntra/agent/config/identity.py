"""Who this agent is: ids from the configuration, or made once and kept in the data directory."""

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
    """`owner` marks on the engine what is this agent's; it is no secret and is never told to the control plane."""

    agent_id: str
    server_id: str
    owner: str


def identify(settings: Settings, *, machine_id: Path = MACHINE_ID) -> AgentIds:
    """The agent's names. Made ones are never made anew: they survive every network and control-plane error.

    The owner does not depend on the configured ids, so that enrolling a lone agent keeps its services. It is derived
    from machine and data directory, so that an agent whose directory was lost finds its containers again.
    """
    path = settings.data_dir / FILE_NAME
    kept = _read(path)
    names = AgentIds(
        agent_id=settings.agent_id or kept.get("agent_id") or f"agt_{secrets.token_hex(8)}",
        server_id=settings.server_id or kept.get("server_id") or f"srv_{secrets.token_hex(8)}",
        owner=kept.get("owner") or _derived_owner(settings.data_dir, machine_id),
    )
    if dataclasses.asdict(names) != kept:
        atomic_file.write(path, json.dumps(dataclasses.asdict(names)).encode() + b"\n")
    return names


def _derived_owner(data_dir: Path, machine_id: Path) -> str:
    try:
        machine = machine_id.read_text().strip()
    except OSError:
        machine = socket.gethostname()
    # machine-id(5) asks that the id itself is not published, only a digest of it with something of one's own.
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
