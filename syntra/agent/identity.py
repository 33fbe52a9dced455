"""Who this agent is: ids from the configuration, or made once and kept in the data directory."""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path

from syntra.agent.config.settings import Settings
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

FILE_NAME = "identity.json"


def identify(settings: Settings) -> tuple[str, str]:
    """Agent id and server id. A made identity is never made anew: it survives every network and control-plane error."""
    path = settings.data_dir / FILE_NAME
    kept = _read(path)
    agent_id = settings.agent_id or kept.get("agent_id") or f"agt_{secrets.token_hex(8)}"
    server_id = settings.server_id or kept.get("server_id") or f"srv_{secrets.token_hex(8)}"
    identity = {"agent_id": agent_id, "server_id": server_id}
    if identity != kept:
        atomic_file.write(path, json.dumps(identity).encode() + b"\n")
    return agent_id, server_id


def _read(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text())
        return {key: value for key in ("agent_id", "server_id") if isinstance(value := kept.get(key), str)}
    except FileNotFoundError:
        return {}
    except OSError as refused:
        raise AgentError(f"cannot read {path}: {refused.strerror}; check its owner") from refused
    except (ValueError, AttributeError):
        log.error("identity file is broken; a new identity is made", extra={"path": str(path)})
        return {}
