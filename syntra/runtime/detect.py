"""Decides which runtime to use, from evidence that the caller collects. Pure."""

from __future__ import annotations

import enum

from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen


class RuntimeKind(enum.Enum):
    """The supported runtimes; the values are those of `runtime.runtime_type`."""

    DOCKER = "docker"
    KUBERNETES = "kubernetes"


@frozen
class Evidence:
    """Evidence for a runtime.

    `engine_named`: the configuration or DOCKER_HOST names an engine. `engine_socket`: the default socket exists.
    `in_cluster`: the process runs in a pod (KUBERNETES_SERVICE_HOST). `cluster_named`: a kubeconfig is configured.
    """

    engine_named: bool
    engine_socket: bool
    in_cluster: bool
    cluster_named: bool


def detect(configured: str, evidence: Evidence) -> RuntimeKind:
    """The runtime to use; `configured` is `docker`, `kubernetes` or `auto`.

    A named runtime wins over one that merely exists. In a pod the cluster wins over a mounted engine socket: an agent
    that runs in a cluster manages the cluster. Without any evidence it is Docker, whose engine may still be starting.
    Raises AgentError when two runtimes are named.
    """
    if configured != "auto":
        return RuntimeKind(configured)
    if evidence.engine_named and evidence.cluster_named:
        raise AgentError(
            "cannot tell the runtime: an engine and a cluster are both configured; set runtime.runtime_type"
        )
    if evidence.engine_named:
        return RuntimeKind.DOCKER
    if evidence.cluster_named or evidence.in_cluster:
        return RuntimeKind.KUBERNETES
    return RuntimeKind.DOCKER
