"""Keys of other tools' files: the service file's key for the same thing, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.agent.config.suggest import hint
from syntra.model import options_payload

# Compose's names, and a few of Kubernetes' and `docker run`'s.
_OURS: Mapping[str, str] = {
    "environment": "use env",
    "environments": "use env",
    "envs": "use env",
    "restart": "leave it out; the engine always restarts a service that exits, until it is stopped by command",
    "build": "build and push the image elsewhere, and name it in image",
    "depends_on": "leave it out; services start independently and are found by name once they are ready",
    "ports": "use port for the port inside the container, and expose_port to publish it on this server",
    "expose": "use port",
    "container_name": "use name; containers are named by service, deployment and replica",
    "networks": "use project; services of one project share a network",
    "healthcheck": "use health_check",
    "mem_limit": "use memory_limit",
    "memory": "use memory_limit",
    "cpus": "use cpu_limit",
    "cpu": "use cpu_limit",
    "scale": "use replicas",
    "deploy": "use replicas, strategy, cpu_limit and memory_limit",
    "hostname": "use internal_hostname",
    "stop_grace_period": "use stop_grace_seconds",
    "services": "a service file has one service; write one file for each",
    "secrets": "use `env: {NAME: {secret: SECRET}}`, and `syntra-agent secrets set SECRET`",
    "configs": "use volumes",
    "links": "leave it out; services of one project find each other by name",
    "logging": "leave it out; log files are limited to three of 10 MB",
    "dns": "leave it out; names are answered by the agent",
    "working_directory": "use working_dir",
    "workdir": "use working_dir",
    "args": "use command",
}
_VOLUMES: Mapping[str, str] = {
    "source": "use name, or host_path for a directory of this server",
    "src": "use name, or host_path for a directory of this server",
    "target": "use container_path",
    "type": "leave it out; host_path makes it a bind",
    "bind": "use host_path",
}
_HEALTH: Mapping[str, str] = {
    "test": "use type with path, port or command",
    "interval": "use interval_seconds",
    "timeout": "use timeout_seconds",
    "start_period": "use start_period_seconds",
    "disable": "leave health_check out",
}
_BY_MAPPING: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("", "config", "networking"), _OURS),
    "volumes": _VOLUMES,
    "health_check": _HEALTH,
}


def refusal(key: str) -> str | None:
    """Why a setting is not carried out; None when it is not one of those."""
    reason = options_payload.REFUSED.get(key)
    return None if reason is None else options_payload.refusal(key, reason)


def unknown_key(key: str, known: list[str], *, inside: str = "") -> str:
    """The sentence for an unknown key; `inside` names the mapping it is in."""
    advice = _BY_MAPPING.get(inside, {}).get(key)
    return f"unknown key; {advice}" if advice is not None else f"unknown key{hint(key, known)}"
