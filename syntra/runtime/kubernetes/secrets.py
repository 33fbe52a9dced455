"""The Secrets of a service: its environment, and credentials for its registry. Pure.

The environment's Secret is immutable and named by its content. So a changed environment is another Secret and rolls the
pods, and an old ReplicaSet keeps the one that it was made with.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from syntra.model.errors import InvalidField
from syntra.model.spec import RegistryAuth, ServiceSpec
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.metadata import owned
from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.resources import SECRET

MAX_BYTES = 1024 * 1024
"""The most that the values of a Secret can have together (core/validation, MaxSecretSize)."""

_HUB = "https://index.docker.io/v1/"
_HUB_NAMES = frozenset({"", "docker.io", "index.docker.io", "registry-1.docker.io"})


def env_secret_name(spec: ServiceSpec) -> str | None:
    """The name of the Secret with the service's environment; None when it has none."""
    if not spec.env:
        return None
    content = json.dumps([spec.service_id, dict(spec.env)], sort_keys=True)
    return names.content_name(f"{names.service_name(spec)}-env", content)


def env_secret(spec: ServiceSpec, labels: Mapping[str, str]) -> Object | None:
    """The Secret with the service's environment; None when it has none."""
    name = env_secret_name(spec)
    if name is None:
        return None
    data = {key: _base64(found) for key, found in sorted(spec.env.items())}
    return owned(SECRET, name, spec, {**labels, names.KIND: "env"}, type="Opaque", immutable=True, data=data)


def pull_secret_name(spec: ServiceSpec) -> str:
    """The name of the Secret with credentials for the service's registry."""
    return f"{names.service_name(spec)}-pull"


def pull_secret(spec: ServiceSpec, auth: RegistryAuth, labels: Mapping[str, str]) -> Object:
    """The Secret with credentials for the service's registry.

    Raises InvalidField when they are incomplete: the API accepts every content.
    """
    if not auth.username or not auth.password or ":" in auth.username:
        raise InvalidField("registry_auth", "needs a username without a colon, and a password")
    registry = _HUB if spec.image.registry in _HUB_NAMES else spec.image.registry
    entry = {
        "username": auth.username,
        "password": auth.password,
        "auth": _base64(f"{auth.username}:{auth.password}"),
    }
    config = json.dumps({"auths": {registry: entry}}, separators=(",", ":"))
    data = {".dockerconfigjson": _base64(config)}
    kind = "kubernetes.io/dockerconfigjson"
    return owned(SECRET, pull_secret_name(spec), spec, {**labels, names.KIND: "pull"}, type=kind, data=data)


def env_bytes(spec: ServiceSpec) -> int:
    """What counts against MAX_BYTES."""
    return sum(len(found.encode()) for found in spec.env.values())


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
