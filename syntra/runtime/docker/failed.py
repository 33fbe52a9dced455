"""The containers of failed deployments, which are kept for inspection. Pure.

The mark is the container's name, because labels cannot be changed once a container exists (Engine API, "Update a
container"). A rename is one call, so after a kill the container has the mark or it does not. What the name would be
without the mark follows from the labels, so no replica's name can be mistaken for a marked one.
"""

from __future__ import annotations

from collections.abc import Mapping

from syntra.model.ids import DeploymentId, ServiceId
from syntra.runtime.docker import body

_MARK = "-failed"


def failed_name(labels: Mapping[str, str]) -> str:
    """The name of a container with these labels once it is kept as a failed one."""
    service_id, deployment_id = ServiceId(labels.get(body.SERVICE, "")), DeploymentId(labels.get(body.DEPLOYMENT, ""))
    if labels.get(body.KIND) == body.RELEASE:
        return body.release_name(service_id, deployment_id) + _MARK
    index = labels.get(body.REPLICA, "1")
    number = int(index) if index.isascii() and index.isdigit() and len(index) < 10 else 1
    return body.container_name(service_id, deployment_id, number) + _MARK


def is_failed(name: str, labels: Mapping[str, str]) -> bool:
    """Whether a container of the agent, with this name, is kept as a failed one."""
    marked = failed_name(labels)
    # A suffix avoids a name that is taken.
    return name == marked or name.startswith(f"{marked}-")
