"""Names, labels and annotations of the objects that the agent has in a cluster. Pure.

Objects are found by labels, never by names. A label value has at most 63 characters of a small alphabet, so an id that
does not fit is labelled by its digest, and the id itself is an annotation.
"""

from __future__ import annotations

import enum
import hashlib
import re

from syntra.model.ids import ServiceId
from syntra.model.spec import ServiceSpec

MANAGER = "syntra-agent"
"""The field manager of everything that the agent applies, and the value of MANAGED_BY."""
SCALE_MANAGER = "syntra-agent-scale"
"""The field manager of a scale. It owns `spec.replicas` until the next deploy."""

MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "syntra.dev/owner"
PROJECT = "syntra.dev/project"
SERVICE = "syntra.dev/service-id"
SLOT = "syntra.dev/slot"
KIND = "syntra.dev/kind"
"""What an object is for, where its API kind does not tell: `env`, `pull`, `revision`, `release`."""

SERVICE_ID = "syntra.dev/service"
"""Annotation: the service id as it is."""
DEPLOYMENT_ID = "syntra.dev/deployment-id"
"""Annotation of a pod template: the deployment that its pods belong to. A ReplicaSet keeps it for ever, while its own
annotations are copied from the Deployment at each rollback."""
RESTARTED_AT = "syntra.dev/restarted-at"
"""Annotation of a pod template: when the last restart began, in epoch seconds."""
REPLACED_AT = "syntra.dev/replaced-at"
"""Annotation of a Deployment: when the other slot took over its requests, in epoch seconds."""

PORT_NAME = "service"
"""The name of a service's port: a Service finds it in each pod by name, so a new version may use another number."""
CONTAINER = "service"
"""The name of the container that runs a service's image."""

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = 40
_LONGEST_LABEL = 63


class Slot(enum.Enum):
    """One of a service's two Deployments. Requests go to one of them, and the other gets the next blue-green deploy."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Slot:
        return Slot.GREEN if self is Slot.BLUE else Slot.BLUE


def namespace(project: str) -> str:
    """The namespace of a project."""
    return f"syntra-{_dns_label(project)}"[:_LONGEST_LABEL].rstrip("-")


def service_name(spec: ServiceSpec) -> str:
    """The name of a service's Service, and of its Deployment in slot blue.

    It is the service's own name where that is a short DNS label that begins with a letter (before Kubernetes 1.36 a
    Service must), else a name made of it that is unique.
    """
    return _dns_label(spec.service_name)


def workload_name(spec: ServiceSpec, slot: Slot) -> str:
    """The name of the Deployment in a slot."""
    name = service_name(spec)
    return name if slot is Slot.BLUE else f"{name}-{slot.value}"


def label_value(text: str) -> str:
    """A label value for an id: the id, or its digest when it is no label value."""
    return text if _LABEL_VALUE.fullmatch(text) else f"sha256-{_digest(text)[:40]}"


def is_dns_label(text: str) -> bool:
    """Whether a Service may have this name on every version of Kubernetes (RFC 1035 label)."""
    return len(text) <= _LONGEST_LABEL and _DNS_LABEL.fullmatch(text) is not None


def selector(service_id: ServiceId, slot: Slot) -> dict[str, str]:
    """The labels that select the pods of a slot. A Deployment's selector is immutable: it must never have a version."""
    return {SERVICE: label_value(service_id), SLOT: slot.value}


def content_name(prefix: str, content: str) -> str:
    """The name of an object whose content never changes: another content has another name."""
    return f"{prefix}-{_digest(content)[:10]}"


def _dns_label(text: str) -> str:
    if len(text) <= _LONGEST_NAME and is_dns_label(text):
        return text
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not plain[:1].isalpha():
        plain = f"s-{plain}"
    return f"{plain[:_LONGEST_NAME].rstrip('-')}-{_digest(text)[:6]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
