"""Builds the body of `POST /containers/create` for the agent's own proxy, and compares two such bodies. Pure.

The container is not a service: it has the labels `syntra.component` and owner, but not `syntra.managed`, by which the
code for services finds its containers.
"""

from __future__ import annotations

import hashlib
import json

from syntra.model.fields import Json
from syntra.model.image import ImageRef
from syntra.runtime.docker import fields
from syntra.runtime.docker.body import INSTANCE, LOG_LIMITS, OWNER
from syntra.runtime.docker.records import ContainerDetails
from syntra.utils.frozen import frozen

COMPONENT = "syntra.component"
PROXY = "proxy"
FINGERPRINT = "syntra.fingerprint"
NAME = "syntra-proxy"

GRACE_SECS = 30
"""Between SIGTERM and SIGKILL. After SIGTERM Traefik lets open requests end for 10 s (lifeCycle.graceTimeOut)."""


@frozen
class Bind:
    """A directory of the host, and its path inside the container."""

    source: str
    target: str
    read_only: bool


@frozen
class WantedProxy:
    """The desired proxy container.

    `as_root`: whether root owns the directories. Root without capabilities cannot ignore other users' file modes, so
    for the directories of a non-root agent the container gets DAC_OVERRIDE.
    """

    owner: str
    image: ImageRef
    arguments: tuple[str, ...]
    binds: tuple[Bind, ...]
    as_root: bool = True


def labels_of(owner: str) -> dict[str, str]:
    """The labels by which the proxy containers of an owner are found."""
    return {COMPONENT: PROXY, OWNER: owner}


def create_body(wanted: WantedProxy, logging_driver: str, *, instance: str) -> dict[str, Json]:
    """The complete create body. `instance` is drawn for each container; see `identity`."""
    body = _body(wanted)
    host = body["HostConfig"]
    assert isinstance(host, dict), "cannot happen because _body builds it"
    if logging_driver == "json-file":
        host["LogConfig"] = {"Type": "json-file", "Config": LOG_LIMITS}
    body["Labels"] = {**labels_of(wanted.owner), INSTANCE: instance, FINGERPRINT: fingerprint(wanted)}
    return body


def fingerprint(wanted: WantedProxy) -> str:
    """16 hex digits over everything except the log driver, which the engine chooses."""
    return hashlib.sha256(json.dumps(_body(wanted), sort_keys=True).encode()).hexdigest()[:16]


def differences(wanted: WantedProxy, there: ContainerDetails) -> tuple[str, ...]:
    """How an existing container differs, for people; empty when it does not."""
    if there.labels.get(FINGERPRINT) == fingerprint(wanted):
        return ()
    found = []
    if there.image_ref != wanted.image.pullable:
        found.append(f"image {there.image_ref} instead of {wanted.image.pullable}")
    has = fields.texts(there.raw, "Config", "Cmd")
    found += [f"not {argument}" for argument in wanted.arguments if argument not in has]
    found += [f"still {argument}" for argument in has if argument not in wanted.arguments]
    return tuple(found) or ("other mounts or rights",)


def _body(wanted: WantedProxy) -> dict[str, Json]:
    capabilities: list[Json] = ["NET_BIND_SERVICE"] if wanted.as_root else ["NET_BIND_SERVICE", "DAC_OVERRIDE"]
    return {
        "Image": wanted.image.pullable,
        "Cmd": list(wanted.arguments),
        "StopSignal": "SIGTERM",
        # Also for a manual `docker stop`, and for an engine that shuts down.
        "StopTimeout": GRACE_SECS,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            # So that it reaches every project's bridge, sees client addresses, and binds its API to loopback.
            "NetworkMode": "host",
            "RestartPolicy": {"Name": "always"},
            "CapDrop": ["ALL"],
            "CapAdd": capabilities,
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m"},
            "Mounts": [
                {"Type": "bind", "Source": bind.source, "Target": bind.target, "ReadOnly": bind.read_only}
                for bind in wanted.binds
            ],
        },
    }
