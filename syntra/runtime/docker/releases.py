"""Release commands: one container per deployment that runs to its end before the new version is started.

Its labels say whose it is and what kind, so it is never taken for a replica: not counted, routed, restarted or told of
in alerts. It stays until the operation ends. An agent that was killed meanwhile finds it, and
waits for it or reads its exit code, instead of running the command twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from syntra.model.container import DEFAULT_STOP_GRACE_SECS
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import Deployment
from syntra.runtime.docker import body
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import EngineTimeout, NotFound
from syntra.runtime.docker.failed import is_failed
from syntra.runtime.docker.identity import Identity
from syntra.runtime.docker.records import ContainerSummary
from syntra.runtime.errors import StepFailed

FAILED = "RELEASE_FAILED"


class Releases:
    """The release containers of one owner. Raises the client's errors, and StepFailed when a command fails."""

    def __init__(self, containers: Containers, identity: Identity, *, owner: str) -> None:
        self._containers = containers
        self._identity = identity
        self._ours: Mapping[str, str | None] = {
            body.MANAGED: "true",
            body.OWNER: owner,
            body.KIND: body.RELEASE,
        }

    async def run(
        self, deployment: Deployment, create: Callable[[], Awaitable[ContainerId]], limit_secs: float
    ) -> None:
        """Run the command of the deployment to its end, unless it has run already.

        Raises StepFailed when it exits non-zero or is not done in time; then it has been stopped, and its container is
        still there to be asked for its last lines.
        """
        service_id = deployment.spec.service_id
        container_id = await self._clear(service_id, keep=deployment.deployment_id)
        if container_id is None:
            container_id = await create()
        details = await self._containers.inspect(container_id)
        if details.state.status == "created":
            await self._containers.start(container_id)
        try:
            exit_code = await self._containers.wait(container_id, deadline=limit_secs)
        except EngineTimeout:
            await self._containers.stop(container_id, _grace(deployment))
            raise StepFailed(
                FAILED,
                f"cannot deploy {deployment.spec.service_name}: the release command was not done within "
                f"{limit_secs:.0f} s; raise timeout_seconds or look at its last lines",
                container_id=container_id,
            ) from None
        if exit_code:
            raise StepFailed(
                FAILED,
                f"cannot deploy {deployment.spec.service_name}: the release command exited with code {exit_code}; "
                "look at its last lines",
                container_id=container_id,
            )

    async def remove(self, service_id: ServiceId, grace_secs: float) -> int:
        """Remove the release containers of a service; one that still runs is stopped first. How many went."""
        removed = 0
        for item in await self._list({body.SERVICE: service_id}):
            try:
                await self._containers.stop(item.id, grace_secs)
            except NotFound:
                continue
            await self._containers.remove(item.id, force=True, volumes=True)
            removed += 1
        return removed

    async def collect(self, known: frozenset[ServiceId]) -> int:
        """Remove what services without an operation under way have left; how many went."""
        left = {item.labels.get(body.SERVICE, "") for item in await self._list({})}
        return sum([await self.remove(service, 0) for service in sorted(known) if service in left])

    async def _clear(self, service_id: ServiceId, *, keep: str) -> ContainerId | None:
        """Remove those of other deployments; the id of the one to keep."""
        kept = None
        for item in await self._list({body.SERVICE: service_id}):
            if item.labels.get(body.DEPLOYMENT) == keep and kept is None:
                kept = ContainerId(item.id)
            else:
                await self._containers.remove(item.id, force=True, volumes=True)
        return kept

    async def _list(self, labels: Mapping[str, str]) -> list[ContainerSummary]:
        listed = await self._containers.list(labels={**self._ours, **labels})
        replaceable = [item for item in listed if not is_failed(item.name, item.labels)]
        return [item for item in replaceable if await self._identity.is_ours(item)]


def _grace(deployment: Deployment) -> float:
    grace = deployment.spec.options.stop_grace_secs
    return DEFAULT_STOP_GRACE_SECS if grace is None else grace
