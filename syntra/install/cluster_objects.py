"""The objects by which the agent runs in a cluster. Pure.

One agent runs in one namespace. The namespace gives it its owner, by which it finds its services again when its data
are lost, so a second install into the same namespace is the same agent.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import field

from syntra.model.fields import Json
from syntra.runtime.kubernetes.names import DEPLOYMENT_ID, MANAGED_BY
from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.resources import (
    CLAIM,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DEPLOYMENT,
    NAMESPACE,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from syntra.runtime.kubernetes.rights import rules
from syntra.utils.frozen import frozen

NAME = "syntra-agent"
"""The name of every object except the namespace and the ClusterRole."""
FIELD_MANAGER = "syntra-agent-install"
"""The field manager, and the value of MANAGED_BY: the agent takes no namespace with it for a project's."""
DEFAULT_NAMESPACE = "syntra"
"""No project can have it: their namespaces begin with `syntra-`."""
SELECTOR = {"app.kubernetes.io/name": NAME}
CONFIGURATION, TOKEN, MACHINE_ID = "agent.toml", "token", "machine-id"
"""The keys of the Secret."""

_USER = 65532
"""An unprivileged user, as the images without a distribution have it."""
_CREDENTIALS = "/etc/syntra/credentials"


@frozen
class ClusterAgent:
    """The agent that is wanted. `volume_size` empty: its data are lost with its pod. `receives`: pods send it OTLP."""

    namespace: str
    image: str
    configuration: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    volume_size: str = ""
    storage_class: str = ""
    receives: bool = True
    has_namespace: bool = True
    """Whether the namespace is applied, too; not one that others have made."""


def role_name(namespace: str) -> str:
    """The name of the ClusterRole and its binding: a cluster may have an agent in each of several namespaces."""
    return f"{NAME}:{namespace}"


def objects(agent: ClusterAgent) -> tuple[Object, ...]:
    """The objects in the order in which they are applied."""
    return tuple(_objects(agent))


def deployment_id(agent: ClusterAgent) -> str:
    """Differs when anything that the pod reads at its start does: a changed configuration starts the agent again."""
    parts = (agent.image, agent.configuration, agent.token or "", agent.volume_size, str(agent.receives))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _objects(agent: ClusterAgent) -> Iterator[Object]:
    space = agent.namespace
    if agent.has_namespace:
        yield _object(NAMESPACE, space, None)
    yield _object(SERVICE_ACCOUNT, NAME, space)
    yield _object(CLUSTER_ROLE, role_name(space), None, rules=[*rules()])
    yield _object(
        CLUSTER_ROLE_BINDING,
        role_name(space),
        None,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": CLUSTER_ROLE.kind, "name": role_name(space)},
        subjects=[{"kind": SERVICE_ACCOUNT.kind, "name": NAME, "namespace": space}],
    )
    yield _object(SECRET, NAME, space, type="Opaque", data=_secret_data(agent))
    if agent.volume_size:
        wanted: Object = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": agent.volume_size}},
        }
        if agent.storage_class:
            wanted["storageClassName"] = agent.storage_class
        yield _object(CLAIM, NAME, space, spec=wanted)
    yield _object(DEPLOYMENT, NAME, space, spec=_workload(agent))
    if agent.receives:
        ports = [("otlp-grpc", 4317), ("otlp-http", 4318)]
        yield _object(
            SERVICE,
            NAME,
            space,
            spec={
                "selector": dict(SELECTOR),
                "ports": [{"name": name, "port": port, "targetPort": port} for name, port in ports],
            },
        )


def _object(kind: Kind, name: str, namespace: str | None, **fields: Json) -> Object:
    labels = {**SELECTOR, MANAGED_BY: FIELD_MANAGER}
    metadata: Object = {"name": name, "labels": dict(labels)}
    if namespace is not None:
        metadata["namespace"] = namespace
    found: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
    return {**found, **fields}


def _secret_data(agent: ClusterAgent) -> Object:
    # A container has no machine id. This one is the same in each of the agent's pods, and another in each namespace.
    machine_id = hashlib.sha256(f"syntra-agent {agent.namespace}".encode()).hexdigest()[:32]
    found = {CONFIGURATION: agent.configuration, MACHINE_ID: f"{machine_id}\n"}
    if agent.token is not None:
        found[TOKEN] = f"{agent.token}\n"
    return {key: base64.b64encode(value.encode()).decode() for key, value in found.items()}


def _workload(agent: ClusterAgent) -> Object:
    return {
        "replicas": 1,
        # The lease keeps a second agent from acting; with a rolling update it would wait for nothing.
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": dict(SELECTOR)},
        "template": {
            "metadata": {"labels": dict(SELECTOR), "annotations": {DEPLOYMENT_ID: deployment_id(agent)}},
            "spec": {
                "serviceAccountName": NAME,
                # The variables of Services in the namespace would begin with SYNTRA_, as those of the agent do.
                "enableServiceLinks": False,
                # Operations get 10 s to finish, and connections time to close.
                "terminationGracePeriodSeconds": 60,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": _USER,
                    "runAsGroup": _USER,
                    "fsGroup": _USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [_container(agent)],
                "volumes": _volumes(agent),
            },
        },
    }


def _container(agent: ClusterAgent) -> Object:
    status = {"exec": {"command": [NAME, "status", "--exit-zero"]}}
    environment: list[Object] = [
        {"name": "CREDENTIALS_DIRECTORY", "value": _CREDENTIALS},
        # The volume itself belongs to root, and the directory of the data must be the agent's own.
        {"name": "SYNTRA_DATA_DIR", "value": "/var/lib/syntra/agent"},
        {"name": "SYNTRA_SOCKET", "value": "/run/syntra/agent.sock"},
        {"name": "HOME", "value": "/tmp"},
    ]
    if agent.receives:
        environment += [
            {"name": "SYNTRA_TELEMETRY__LISTEN", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {
                "name": "SYNTRA_KUBERNETES__OTLP_ENDPOINT",
                "value": f"http://{NAME}.{agent.namespace}.svc:4318",
            },
        ]
    mounts: list[Object] = [
        {"name": "secret", "mountPath": "/etc/syntra/agent.toml", "subPath": CONFIGURATION, "readOnly": True},
        {"name": "secret", "mountPath": "/etc/machine-id", "subPath": MACHINE_ID, "readOnly": True},
        {"name": "data", "mountPath": "/var/lib/syntra"},
        {"name": "run", "mountPath": "/run/syntra"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if agent.token is not None:
        mounts.append({"name": "credentials", "mountPath": _CREDENTIALS, "readOnly": True})
    return {
        "name": NAME,
        "image": agent.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [NAME, "start"],
        "env": [*environment],
        "ports": [{"name": "otlp-grpc", "containerPort": 4317}, {"name": "otlp-http", "containerPort": 4318}],
        # Once: each one starts a process.
        "startupProbe": {**status, "periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": 60},
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [*mounts],
    }


def _volumes(agent: ClusterAgent) -> list[Object]:
    data: Object = {"persistentVolumeClaim": {"claimName": NAME}} if agent.volume_size else {"emptyDir": {}}
    found: list[Object] = [
        {"name": "secret", "secret": {"secretName": NAME, "defaultMode": 0o400}},
        {"name": "data", **data},
        {"name": "run", "emptyDir": {"medium": "Memory"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if agent.token is not None:
        items: list[Object] = [{"key": TOKEN, "path": TOKEN}]
        found.append({"name": "credentials", "secret": {"secretName": NAME, "defaultMode": 0o400, "items": [*items]}})
    return found
