"""What the agent's user may have to do in a cluster: the rules of its ClusterRole, and what of them is lacking. Pure.

Each right is one that a call of this package needs, and no other. Reading `/version`, `/apis` and `/readyz` and asking
for one's own rights is allowed to every user (Kubernetes, "RBAC: default roles").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from syntra.runtime.kubernetes.objects import Object
from syntra.utils.frozen import frozen

_APPLIED = ("get", "list", "create", "patch", "delete")
"""Server-side apply of an object that may not exist yet needs `create` beside `patch`."""


@frozen
class Right:
    """Verbs on a resource; `resource` has its subresource after a slash.

    `with_group`: needed only in clusters that have this API group. `without_group`: only in clusters that do not.
    `in_own_namespace`: needed only in the namespace of the agent.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    with_group: str = ""
    without_group: str = ""
    in_own_namespace: bool = False


METRICS = "metrics.k8s.io"
TRAEFIK = "traefik.io"
GATEWAY = "gateway.networking.k8s.io"

RIGHTS = (
    Right(group="", resource="namespaces", verbs=("get", "create", "patch", "delete")),
    # Release commands run in pods of their own.
    Right(group="", resource="pods", verbs=("get", "list", "watch", "create", "delete")),
    Right(group="", resource="pods/log", verbs=("get",)),
    # The request is a GET; since Kubernetes 1.35 the API server asks for `create` as well.
    Right(group="", resource="pods/exec", verbs=("get", "create")),
    Right(group="", resource="services", verbs=_APPLIED),
    Right(group="", resource="secrets", verbs=_APPLIED),
    # `delete` for services that are removed with their volumes.
    Right(group="", resource="persistentvolumeclaims", verbs=_APPLIED),
    Right(group="", resource="events", verbs=("list",)),
    # The figures of pods, where no metrics server has them.
    Right(group="", resource="nodes/proxy", verbs=("get",), without_group=METRICS),
    Right(group="apps", resource="deployments", verbs=("get", "list", "watch", "create", "patch", "delete")),
    Right(group="apps", resource="deployments/scale", verbs=("patch",)),
    Right(group="apps", resource="replicasets", verbs=("list", "watch")),
    Right(group="autoscaling", resource="horizontalpodautoscalers", verbs=_APPLIED),
    Right(group="discovery.k8s.io", resource="endpointslices", verbs=("list",)),
    Right(group="networking.k8s.io", resource="ingresses", verbs=_APPLIED),
    Right(group="coordination.k8s.io", resource="leases", verbs=("get", "create", "update"), in_own_namespace=True),
    Right(group=METRICS, resource="pods", verbs=("list",), with_group=METRICS),
    Right(group=TRAEFIK, resource="ingressroutes", verbs=_APPLIED, with_group=TRAEFIK),
    Right(group=TRAEFIK, resource="middlewares", verbs=_APPLIED, with_group=TRAEFIK),
    Right(group=TRAEFIK, resource="traefikservices", verbs=_APPLIED, with_group=TRAEFIK),
    Right(group=GATEWAY, resource="httproutes", verbs=_APPLIED, with_group=GATEWAY),
)


@frozen
class Access:
    """One verb of a right, as one access review asks for it."""

    right: Right
    verb: str


def rules() -> list[Object]:
    """The rules of the agent's ClusterRole."""
    return [{"apiGroups": [right.group], "resources": [right.resource], "verbs": [*right.verbs]} for right in RIGHTS]


def needed(groups: frozenset[str]) -> tuple[Access, ...]:
    """What the agent needs in a cluster with these API groups."""
    rights = [
        right
        for right in RIGHTS
        if (not right.with_group or right.with_group in groups) and right.without_group not in groups
    ]
    return tuple(Access(right=right, verb=verb) for right in rights for verb in right.verbs)


def review(access: Access, own_namespace: str) -> Object:
    """The SelfSubjectAccessReview of one access (authorization.k8s.io/v1). An empty namespace means all of them."""
    resource, _, subresource = access.right.resource.partition("/")
    attributes: Object = {"group": access.right.group, "resource": resource, "verb": access.verb}
    if subresource:
        attributes["subresource"] = subresource
    if access.right.in_own_namespace:
        attributes["namespace"] = own_namespace
    return _review(attributes)


def review_of_all() -> Object:
    """The review that only an administrator passes."""
    return _review({"group": "*", "resource": "*", "verb": "*"})


def lacking(missing: Sequence[Access]) -> str:
    """The warning for what is missing; empty when nothing is."""
    if not missing:
        return ""
    named = ", ".join(f"{'/'.join(verbs)} {_shown(right)}" for right, verbs in _by_right(missing))
    return (
        f"the agent's user lacks: {named}; apply the ClusterRole that `syntra-agent install --kubernetes --print` "
        "shows, and bind it to this user"
    )


def _review(attributes: Object) -> Object:
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }


def _by_right(missing: Iterable[Access]) -> list[tuple[Right, list[str]]]:
    found: dict[Right, list[str]] = {}
    for access in missing:
        found.setdefault(access.right, []).append(access.verb)
    return [*found.items()]


def _shown(right: Right) -> str:
    # The group only where its resource's name alone is ambiguous.
    return f"{right.resource}.{right.group}" if right.group == METRICS else right.resource
