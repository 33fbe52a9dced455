"""Which objects of a service are still needed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syntra.runtime.kubernetes.objects import Object, integer, items, text
from syntra.runtime.kubernetes.pods import volume_secrets
from syntra.runtime.kubernetes.render import Rendered
from syntra.runtime.kubernetes.revisions import revisions


def needed_objects(
    rendered: Rendered, objects: Mapping[str, Sequence[Object]], replica_sets: Sequence[Object], *, keep_revisions: int
) -> Mapping[str, frozenset[str]]:
    """The names of needed objects, by kind: the rendered ones, kept revisions, and Secrets that a template names.

    A ReplicaSet of an earlier version has its Secrets still, so that a rollback to it is exact.
    """
    needed: dict[str, set[str]] = {}
    for obj in rendered.objects:
        needed.setdefault(text(obj, "kind"), set()).add(text(obj, "metadata", "name"))
    secrets = needed.setdefault("Secret", set())
    owned = [*objects.get("Deployment", ()), *(one for one in replica_sets if integer(one, "status", "replicas") > 0)]
    for owner in owned:
        secrets |= template_secrets(owner)
    # A rollback makes a newer revision of the same deployment.
    newest = {revision.deployment_id: revision for revision in revisions(objects.get("Secret", ()))}
    kept = sorted(newest.values(), key=lambda revision: revision.number)
    secrets.update(revision.name for revision in kept[-keep_revisions:])
    return {kind: frozenset(names) for kind, names in needed.items()}


def template_secrets(owner: Object) -> set[str]:
    """The Secrets that a pod template names."""
    pod = ("spec", "template", "spec")
    found = {text(one, "name") for one in items(owner, *pod, "imagePullSecrets")}
    for container in items(owner, *pod, "containers"):
        found |= {text(one, "secretRef", "name") for one in items(container, "envFrom")}
    return (found | volume_secrets(owner)) - {""}
