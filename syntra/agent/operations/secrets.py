"""Gives the variables of a deployment the values of the secrets that they refer to.

The values become part of the deployment, sealed in the journal: a rollback has the values that the deployment had, and
a container that is created again needs no secret.
"""

from __future__ import annotations

import dataclasses

from syntra.agent.journal.journal import Journal
from syntra.model.command import Deploy
from syntra.model.errors import RequestError
from syntra.model.spec import Deployment


async def with_secrets(deployment: Deployment, journal: Journal) -> Deployment:
    """The deployment with the present values. Raises RequestError (SECRET_NOT_FOUND) when one is not set."""
    spec = deployment.spec
    if not spec.env_secrets:
        return deployment
    values = await journal.secrets.values(secret for _, secret in spec.env_secrets)
    missing = [(name, secret) for name, secret in spec.env_secrets if secret not in values]
    if missing:
        needed = ", ".join(f"{name} needs secret {secret}" for name, secret in missing)
        commands = " and ".join(
            f"`syntra-agent secrets set {secret}`" for secret in dict.fromkeys(secret for _, secret in missing)
        )
        raise RequestError(
            "SECRET_NOT_FOUND",
            f"cannot deploy {spec.service_id}: {needed}, which is not set on this server; run {commands}",
        )
    env = {**spec.env, **{name: values[secret] for name, secret in spec.env_secrets}}
    return dataclasses.replace(deployment, spec=dataclasses.replace(spec, env=env))


def with_kept_secrets(command: Deploy, kept: Deployment) -> Deploy:
    """A command that was accepted before, with the values that its deployment was stored with."""
    spec = command.deployment.spec
    if not spec.env_secrets:
        return command
    values = {name: kept.spec.env[name] for name, _ in spec.env_secrets if name in kept.spec.env}
    resolved = dataclasses.replace(spec, env={**spec.env, **values})
    return dataclasses.replace(command, deployment=dataclasses.replace(command.deployment, spec=resolved))
