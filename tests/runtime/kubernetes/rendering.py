"""Renders sample deployments, and takes the parts out of the result that tests ask about."""

from __future__ import annotations

import dataclasses
from typing import Any

from syntra.model.spec import Deployment
from syntra.runtime.kubernetes.names import Slot
from syntra.runtime.kubernetes.render import RenderContext, Rendered, Routes, render
from tests.model.samples import deployment

CONTEXT = RenderContext(owner="agent-1", slot=Slot.BLUE, replicas=1, routes=Routes.NONE)


def rendered(wanted: Deployment | None = None, **around: Any) -> Rendered:
    """The objects of a deployment; `around` are fields of the context."""
    return render(wanted or deployment(), dataclasses.replace(CONTEXT, **around))


def workload(wanted: Deployment | None = None, **around: Any) -> dict[str, Any]:
    """The spec of the Deployment."""
    found = rendered(wanted, **around).workload["spec"]
    assert isinstance(found, dict)
    return found


def pod(wanted: Deployment | None = None, **around: Any) -> dict[str, Any]:
    """The spec of the pods."""
    found = workload(wanted, **around)["template"]["spec"]
    assert isinstance(found, dict)
    return found


def container(wanted: Deployment | None = None, **around: Any) -> dict[str, Any]:
    """The one container of the pods."""
    (found,) = pod(wanted, **around)["containers"]
    assert isinstance(found, dict)
    return found
