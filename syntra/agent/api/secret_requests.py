"""Stores, lists and removes secrets, for the local socket: a control plane would keep their values."""

from __future__ import annotations

from syntra.agent.journal.journal import Journal
from syntra.agent.messages import CONTROL_PLANE, Peer
from syntra.model.command import SecretCommand, SetSecret
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.utils.timestamps import format_ns


async def change_secret(command: SecretCommand, journal: Journal, peer: Peer) -> dict[str, Json]:
    """The data of the response: what was done, and the services that use the secret. Raises AgentError."""
    is_set = isinstance(command, SetSecret)
    if peer.origin == CONTROL_PLANE:
        verb = "set" if is_set else "remove"
        raise RequestError("UNSUPPORTED", f"cannot {verb} a secret: it is available on the local socket only")
    used_by = (await _users(journal)).get(command.name, [])
    if isinstance(command, SetSecret):
        return {
            "name": command.name,
            "replaced": await journal.secrets.put(command.name, command.value),
            **_as(used_by),
        }
    if not await journal.secrets.remove(command.name):
        raise RequestError(
            "SECRET_NOT_FOUND", f"cannot remove secret {command.name}: it is not set; see `syntra-agent secrets list`"
        )
    return {"name": command.name, "removed": True, **_as(used_by)}


async def list_secrets(journal: Journal) -> dict[str, Json]:
    """Names, times and users; never a value."""
    users = await _users(journal)
    return {
        "secrets": [
            {"name": stored.name, "set_at": format_ns(int(stored.at * 1e9)), **_as(users.get(stored.name, []))}
            for stored in await journal.secrets.all()
        ]
    }


def _as(used_by: list[str]) -> dict[str, Json]:
    return {"used_by": [*used_by]}


async def _users(journal: Journal) -> dict[str, list[str]]:
    """The services whose current deployment has a variable of each secret, as `project/name`."""
    users: dict[str, list[str]] = {}
    for current in await journal.current_all():
        if current.deployment is not None:
            spec = current.deployment.spec
            for secret in sorted({secret for _, secret in spec.env_secrets}):
                users.setdefault(secret, []).append(f"{spec.project_name}/{spec.service_name}")
    return users
