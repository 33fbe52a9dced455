"""Identifiers, told apart by type and checked as the names and labels they become."""

from __future__ import annotations

import re
from typing import NewType

from syntra.model.errors import InvalidField

ServiceId = NewType("ServiceId", str)
DeploymentId = NewType("DeploymentId", str)
RequestId = NewType("RequestId", str)
ContainerId = NewType("ContainerId", str)

# What Docker takes in a container name, and short enough that `syn-{service}-{deployment}-{n}` stays below
# the 253 characters of a host name.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
# A request id names a journal row only: any printable ASCII, so that foreign id schemes pass.
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")


def service_id(field: str, text: str) -> ServiceId:
    """Check a service id; raises InvalidField."""
    return ServiceId(_checked(_ID, field, text))


def deployment_id(field: str, text: str) -> DeploymentId:
    """Check a deployment id; raises InvalidField."""
    return DeploymentId(_checked(_ID, field, text))


def request_id(field: str, text: str) -> RequestId:
    """Check a request id; raises InvalidField."""
    if _REQUEST_ID.fullmatch(text) is None:
        raise InvalidField(field, "is not an id (1–200 printable characters without spaces)")
    return RequestId(text)


def _checked(pattern: re.Pattern[str], field: str, text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise InvalidField(
            field, f"{text[:40]!r} is not an id (letters, digits, `_`, `.`, `-`; starts with a letter or digit; ≤ 100)"
        )
    return text
