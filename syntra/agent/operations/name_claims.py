"""Which service of a project has which internal name: its `service_name` and its `internal_hostname`.

Two services with one name would answer each other's requests, also where the engine resolves names by aliases. So the
second one is refused, as with domains. A name is free once its service is removed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

from syntra.agent.journal.journal import Journal
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.model.errors import RequestError
from syntra.model.spec import ServiceSpec


class NameClaims:
    """Claims of the current services, of operations under way, and of commands that are being accepted."""

    def __init__(self, journal: Journal, queues: ServiceQueues) -> None:
        self._journal = journal
        self._queues = queues
        self._accepting: list[ServiceSpec] = []

    async def check(self, spec: ServiceSpec) -> None:
        """Raise RequestError (NAME_CONFLICT) when another service of the project has one of the spec's names."""
        current = [service.deployment.spec for service in await self._journal.current_all() if service.deployment]
        # Nothing is awaited from here on: of two commands at once, the second sees the first.
        others = [*current, *self._queues.coming_specs(), *self._accepting]
        taken = conflict(spec, others)
        if taken is not None:
            raise RequestError("NAME_CONFLICT", taken)

    @asynccontextmanager
    async def reserving(self, spec: ServiceSpec) -> AsyncIterator[None]:
        """Check the names, and hold them until the block ends; then its operation is in the queue."""
        await self.check(spec)
        self._accepting.append(spec)
        try:
            yield
        finally:
            self._accepting.remove(spec)


def conflict(spec: ServiceSpec, others: Iterable[ServiceSpec]) -> str | None:
    """A sentence about the first name that another service of the project has; None without one. Pure."""
    own = list(_names(spec))
    for other in others:
        if other.service_id == spec.service_id or other.project_name != spec.project_name:
            continue
        theirs = {name for _, names in _names(other) for name in names}
        for key, names in own:
            if theirs.intersection(names):
                value = spec.service_name if key == "service_name" else spec.internal_hostname
                return (
                    f"{key}: {value} is a name of service {other.service_name} ({other.service_id}) in project "
                    f"{spec.project_name}; choose another name, or remove that service first"
                )
    return None


def _names(spec: ServiceSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The keys of a payload that give names, with the names in lower case: DNS compares without case (RFC 4343)."""
    yield "service_name", _forms(spec.service_name, spec.project_name)
    if spec.internal_hostname:
        yield "networking.internal_hostname", _forms(spec.internal_hostname, spec.project_name)


def _forms(name: str, project: str) -> tuple[str, ...]:
    """A name as it is, and a single label below the project's domain too."""
    short = name.lower().rstrip(".")
    return (short,) if "." in short else (short, f"{short}.{project.lower()}.internal")
