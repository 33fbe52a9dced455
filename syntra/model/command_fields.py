"""Fields that several commands have. All raise InvalidField."""

from __future__ import annotations

import re
from decimal import Decimal

from syntra.model import ids
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import format_ns, parse_ns

MAX_GRACE_SECS = 3600.0
_CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")
_EPOCH_SECS = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)


def service_of(payload: Fields) -> ServiceId:
    """The service that a payload names."""
    return ids.service_id(payload.at("service_id"), payload.text("service_id"))


def grace_of(payload: Fields) -> float | None:
    """How long to wait before a kill, in seconds; None for the service's own time."""
    if not payload.has("timeout_seconds", "timeout"):
        return None
    return payload.number("timeout_seconds", "timeout", low=0, high=MAX_GRACE_SECS)


def deployment_of(payload: Fields) -> DeploymentId:
    """The deployment that a payload names."""
    return ids.deployment_id(payload.at("deployment_id"), payload.text("deployment_id"))


def container_of(payload: Fields) -> ContainerId:
    """The container that a payload names."""
    text = payload.text("container_id")
    if _CONTAINER_ID.fullmatch(text) is None:
        raise InvalidField(payload.at("container_id"), f"{text[:40]!r} is not a container's id (12 to 64 hex digits)")
    return ContainerId(text)


def time_of(payload: Fields, key: str) -> str | None:
    """A time as runtimes get it; the payload's is RFC 3339, or seconds since the epoch. None without one."""
    text = payload.quantity(key)
    if not text:
        return None
    try:
        when = int(Decimal(text) * 1_000_000_000) if _EPOCH_SECS.fullmatch(text) else parse_ns(text)
        return format_ns(when) if when is not None else None
    except AgentError:
        raise InvalidField(payload.at(key), f"{text[:40]!r} is not a time (RFC 3339 or epoch seconds)") from None
