"""One service in detail, for `status SERVICE`: the spec in force, routes, names, the last answers of health checks.

Values of variables are secrets and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from syntra.agent.api.service_views import ServiceView
from syntra.model.fields import Json
from syntra.model.spec_payload import render_deployment
from syntra.model.status import Replica
from syntra.utils.redact import is_secret_name

MASK = "********"


def describe(view: ServiceView, last_answer: Callable[[Replica], str]) -> dict[str, Json]:
    """What is desired of the service, and what its replicas answered last."""
    deployment = view.deployment
    described: dict[str, Json] = {
        "health_answers": [
            {"replica": replica.index, "answer": last_answer(replica)}
            for replica in view.replicas
            if replica.is_up and last_answer(replica)
        ]
    }
    if deployment is None:
        return described
    spec = deployment.spec
    names = [spec.service_name, *([spec.internal_hostname] if spec.internal_hostname else [])]
    return {
        **described,
        "spec": _masked(render_deployment(deployment)),
        "routes": view.urls if spec.domains else [],
        "names": [*dict.fromkeys(names)],
    }


def is_about_routes(warning: str) -> bool:
    """Whether a warning of the agent says why requests may not arrive."""
    return any(word in warning.lower() for word in ("proxy", "route", "traefik"))


def _masked(value: Mapping[str, Json], *, is_secret: bool = False) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            # `env_secrets` has the names of secrets, which are none themselves.
            found[name] = dict(inner) if name == "env_secrets" else _masked(inner, is_secret=name == "env_vars")
        elif inner not in (None, [], ""):
            found[name] = MASK if is_secret or is_secret_name(name) else inner
    return found
