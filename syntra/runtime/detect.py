"""Decides which runtime to use, from evidence that `finder` collects. Pure.

What the operator names comes first, then what the agent ran on before, then what answers. An engine may start after
the agent, so an agent waits for one that is named or that it ran on before, and takes no other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import replace

from syntra.utils.frozen import frozen

DOCKER_SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"
KUBECONFIGS = (
    "/etc/rancher/k3s/k3s.yaml",
    "/var/snap/microk8s/current/credentials/client.config",
    "/etc/kubernetes/admin.conf",
)
"""Where distributions write the administrator's kubeconfig; before them comes `~/.kube/config`."""


class RuntimeKind(enum.Enum):
    """The supported runtimes; the values are those of `runtime.runtime_type`. Podman answers Docker's API."""

    DOCKER = "docker"
    KUBERNETES = "kubernetes"


@frozen
class Seen:
    """A socket or kubeconfig that was tried. `answer` is the product that answered, "" when none did.

    `problem` says why it did not answer, in a few words.
    """

    address: str
    answer: str = ""
    problem: str = ""


@frozen
class Remembered:
    """What the agent ran on before, and the file that says so."""

    kind: RuntimeKind
    address: str
    file: str


@frozen
class Evidence:
    """`kubeconfig` and `engine` are addresses that the operator named, with `*_by` where; "" when there is none.

    `engines` and `clusters` were tried, in the order in which they are preferred.
    """

    in_cluster: bool = False
    kubeconfig: str = ""
    kubeconfig_by: str = ""
    engine: str = ""
    engine_by: str = ""
    engines: tuple[Seen, ...] = ()
    clusters: tuple[Seen, ...] = ()
    remembered: Remembered | None = None


@frozen
class Choice:
    """The runtime, where it is ("" where the runtime's own default decides), and why it was chosen.

    `is_found`: it answered, so it may be remembered. `warnings` are sentences for `status`.
    """

    kind: RuntimeKind
    address: str
    reason: str
    is_found: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def engine(self) -> str:
        """The engine's address; "" where DOCKER_HOST or Docker's own default decides."""
        return self.address if self.kind is RuntimeKind.DOCKER else ""


def decide(configured: str, evidence: Evidence) -> Choice:
    """The runtime to use; `configured` is `docker`, `kubernetes` or `auto`."""
    if configured != "auto":
        kind = RuntimeKind(configured)
        address = _kubeconfig(evidence) if kind is RuntimeKind.KUBERNETES else _engine(evidence)
        return Choice(kind=kind, address=address, reason=f"runtime.runtime_type is {configured}")
    named = [*_named(evidence)]
    found = [*_found(evidence)]
    if named:
        # What merely answers beside it is no question: the operator has said which.
        return _with_others(named[0], named[1:])
    if evidence.remembered is not None:
        return _as_before(evidence.remembered, found)
    return _with_others(found[0], found[1:]) if found else _nothing(evidence)


def _named(evidence: Evidence) -> Iterable[Choice]:
    if evidence.in_cluster:
        yield Choice(
            kind=RuntimeKind.KUBERNETES,
            address="",
            reason="the agent runs in a cluster (KUBERNETES_SERVICE_HOST is set)",
        )
    if evidence.kubeconfig:
        yield Choice(
            kind=RuntimeKind.KUBERNETES,
            address=_kubeconfig(evidence),
            reason=f"{evidence.kubeconfig_by} names a cluster",
        )
    if evidence.engine:
        yield Choice(kind=RuntimeKind.DOCKER, address=_engine(evidence), reason=f"{evidence.engine_by} names an engine")


def _kubeconfig(evidence: Evidence) -> str:
    # The client reads KUBECONFIG itself: it may name several files.
    return "" if evidence.kubeconfig_by == "KUBECONFIG" else evidence.kubeconfig


def _engine(evidence: Evidence) -> str:
    # The client reads DOCKER_HOST itself, with the variables for TLS.
    return "" if evidence.engine_by == "DOCKER_HOST" else evidence.engine


def _found(evidence: Evidence) -> Iterable[Choice]:
    for kind, tried in ((RuntimeKind.DOCKER, evidence.engines), (RuntimeKind.KUBERNETES, evidence.clusters)):
        for seen in tried:
            if seen.answer:
                reason = f"{seen.answer} answers at {seen.address}"
                yield Choice(kind=kind, address=seen.address, reason=reason, is_found=True)


def _with_others(first: Choice, others: Iterable[Choice]) -> Choice:
    reasons = [other.reason for other in others]
    if not reasons:
        return first
    warning = (
        f"several runtimes could be meant: {first.reason}, which is used; but {', and '.join(reasons)}; "
        "set runtime.runtime_type and runtime.docker_socket to choose"
    )
    return replace(first, warnings=(warning,))


def _as_before(before: Remembered, found: list[Choice]) -> Choice:
    choice = Choice(
        kind=before.kind,
        address=before.address,
        reason=f"the agent ran on {before.address} before ({before.file} says so)",
    )
    others = [other.reason for other in found if (other.kind, other.address) != (before.kind, before.address)]
    if len(others) < len(found):
        return replace(_with_others(choice, [o for o in found if o.reason in others]), is_found=True)
    if not others:
        return choice
    warning = (
        f"the agent waits for {before.address}, which it ran on before, although {', and '.join(others)}; "
        f"to change the runtime, remove {before.file} and restart the agent"
    )
    return replace(choice, warnings=(warning,))


def _nothing(evidence: Evidence) -> Choice:
    tried = ", ".join(f"{seen.address} ({seen.problem})" for seen in (*evidence.engines, *evidence.clusters))
    warning = (
        f"no container engine and no cluster answers; looked for: {tried}; start Docker, or start Podman's socket "
        "(systemctl enable --now podman.socket) and restart the agent, or set runtime.docker_socket"
    )
    return Choice(
        kind=RuntimeKind.DOCKER,
        address=DOCKER_SOCKET,
        reason=f"nothing answers; Docker is expected at {DOCKER_SOCKET}",
        warnings=(warning,),
    )
