"""The labels and annotations of rendered objects. Pure.

A label value has at most 63 characters of a small alphabet (apimachinery, "Labels and Selectors"), so raw ids are
annotations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from syntra.model.fields import Json
from syntra.model.image import ImageRef
from syntra.model.spec import ServiceSpec
from syntra.runtime.kubernetes import names
from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.resources import Kind
from syntra.utils.frozen import frozen

_QUALIFIED_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
# Controllers and the kubelet act on keys of these domains; ReplicaSets own `pod-template-hash`.
_RESERVED_DOMAINS = ("kubernetes.io", "k8s.io", "syntra.dev")
_RESERVED_KEYS = frozenset({"pod-template-hash", "controller-revision-hash"})


@frozen
class OwnLabels:
    """What becomes of a spec's labels. `dropped` are the keys that no object can have, sorted."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    dropped: tuple[str, ...]


def owned(kind: Kind, name: str, service: ServiceSpec, labels: Mapping[str, str], /, **fields: Json) -> Object:
    """An object of a service in its project's namespace. `fields` are those beside its metadata."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": names.namespace(service.project_name),
            "labels": dict(labels),
            "annotations": {names.SERVICE_ID: service.service_id},
        },
        **fields,
    }


def namespace_labels(owner: str, project: str) -> dict[str, str]:
    """The labels of a project's namespace."""
    return {
        names.MANAGED_BY: names.MANAGER,
        names.OWNER: names.label_value(owner),
        names.PROJECT: names.label_value(project),
        "app.kubernetes.io/part-of": names.label_value(project),
    }


def service_labels(owner: str, spec: ServiceSpec, slot: names.Slot | None = None) -> dict[str, str]:
    """The labels of a service's objects; with a slot, of the objects of that slot."""
    found = {
        **namespace_labels(owner, spec.project_name),
        names.SERVICE: names.label_value(spec.service_id),
        "app.kubernetes.io/name": names.label_value(spec.service_name),
        "app.kubernetes.io/instance": names.label_value(spec.service_id),
        "app.kubernetes.io/version": _version(spec.image),
    }
    return found if slot is None else {**found, names.SLOT: slot.value}


def own_labels(spec: ServiceSpec) -> OwnLabels:
    """Sort a spec's labels: a valid label becomes one of the pods, a valid key with another value an annotation.

    Keys that controllers act on are dropped, and so are all that the API refuses.
    """
    labels, annotations, dropped = {}, {}, []
    for key, text in sorted(spec.labels.items()):
        if not _is_free_key(key):
            dropped.append(key)
        elif _LABEL_VALUE.fullmatch(text):
            labels[key] = text
        else:
            annotations[key] = text
    return OwnLabels(labels=labels, annotations=annotations, dropped=tuple(dropped))


def is_subdomain(text: str) -> bool:
    """Whether most kinds of objects may have this name (RFC 1123 subdomain)."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def _is_free_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if _QUALIFIED_NAME.fullmatch(name) is None or key in _RESERVED_KEYS:
        return False
    if not slash:
        return True
    is_reserved = any(prefix == domain or prefix.endswith(f".{domain}") for domain in _RESERVED_DOMAINS)
    return is_subdomain(prefix) and not is_reserved


def _version(image: ImageRef) -> str:
    """A tag, or as much of a digest as a label can have."""
    if image.digest is None:
        return names.label_value(image.tag)
    return image.digest.replace(":", "-")[:47]
