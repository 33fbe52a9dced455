"""Payloads and deployments of one small shop."""

from __future__ import annotations

from typing import Any

from syntra.model.fields import Fields, Json
from syntra.model.spec import Deployment
from syntra.model.spec_payload import parse_deployment

CANARY = "canary-5f2b9d71c0"
"""A text that may stand nowhere in the clear."""


def deploy_payload(deployment_id: str = "d1", service_id: str = "web", **changes: Any) -> dict[str, Json]:
    """A deploy as the control plane sends it; `config` is merged, everything else replaces."""
    config: dict[str, Json] = {
        "port": 8080,
        "replicas": 1,
        "env_vars": {"VERSION": deployment_id, **changes.pop("env", {})},
        **changes.pop("config", {}),
    }
    return {
        "deployment_id": deployment_id,
        "service_id": service_id,
        "service_name": service_id,
        "project_name": "shop",
        "image": "shop/web:1",
        "config": config,
        "strategy": "rolling",
        "rollback_on_failure": True,
        "timeout_seconds": 60,
        **changes,
    }


def deployment(deployment_id: str = "d1", service_id: str = "web", **changes: Any) -> Deployment:
    """The deployment of such a payload."""
    return parse_deployment(Fields(deploy_payload(deployment_id, service_id, **changes)))
