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


_OF_NO_NAMESPACE = ("namespaces", "nodes/proxy")
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
    """One verb of a right, as one access review asks for it. An empty namespace means all of them."""

    right: Right
    verb: str
    namespace: str = ""


def rules() -> list[Object]:
    """The rules of the agent's ClusterRole."""
    return [{"apiGroups": [right.group], "resources": [right.resource], "verbs": [*right.verbs]} for right in RIGHTS]


def needed(groups: frozenset[str], namespaces: Sequence[str] = ()) -> tuple[Access, ...]:
    """What the agent needs in a cluster with these API groups, in all namespaces or in these only.

    Confined to some, it works without the rights to namespaces themselves and to nodes.
    """
    rights = [
        right
        for right in RIGHTS
        if (not right.with_group or right.with_group in groups)
        and right.without_group not in groups
        and not (namespaces and right.resource in _OF_NO_NAMESPACE)
    ]
    return tuple(
        Access(right=right, verb=verb, namespace=namespace)
        for right in rights
        for namespace in (("",) if right.in_own_namespace or not namespaces else namespaces)
        for verb in right.verbs
    )


def review(access: Access, own_namespace: str) -> Object:
    """The SelfSubjectAccessReview of one access (authorization.k8s.io/v1)."""
    resource, _, subresource = access.right.resource.partition("/")
    attributes: Object = {"group": access.right.group, "resource": resource, "verb": access.verb}
    if subresource:
        attributes["subresource"] = subresource
    if namespace := own_namespace if access.right.in_own_namespace else access.namespace:
        attributes["namespace"] = namespace
    return _review(attributes)


def review_of_all() -> Object:
    """The review that only an administrator passes."""
    return _review({"group": "*", "resource": "*", "verb": "*"})


def lacking(missing: Sequence[Access]) -> str:
    """The warning for what is missing; empty when nothing is."""
    if not missing:
        return ""
    by_namespace: dict[str, list[Access]] = {}
    for access in missing:
        by_namespace.setdefault(access.namespace, []).append(access)
    named = "; ".join(
        ", ".join(f"{'/'.join(verbs)} {_shown(right)}" for right, verbs in _by_right(its))
        + (f" in namespace {namespace}" if namespace else "")
        for namespace, its in by_namespace.items()
    )
    confined = any(by_namespace)
    return (
        f"the agent's user lacks: {named}; apply the ClusterRole that `syntra-agent install --kubernetes --print` "
        f"shows, and bind it to this user{' there' if confined else ''}"
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
