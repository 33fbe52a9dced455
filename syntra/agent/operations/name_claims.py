"""Which service of a project has which internal name: its `service_name` and its `internal_hostname`.

Two services with one name would answer each other's requests, also where the engine resolves names by aliases. So the
second one is refused, as with domains, or gets another name where its command asks for that. A name is free once its
service is removed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from syntra.agent.journal.journal import Journal
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.model.command import Deploy
from syntra.model.errors import RequestError
from syntra.model.ids import ServiceId
from syntra.model.spec import ServiceSpec

# Of a service id, in the name of a service whose own name was taken.
_ID_CHARS = 8
_PLAIN = re.compile(r"[a-z0-9]{8}", re.ASCII)


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
    async def claiming(self, command: Deploy) -> AsyncIterator[Deploy]:
        """The command under a name that is free, which is held until the block ends; unchanged unless it `renames`."""
        if not command.renames:
            yield command
            return
        current = await self._journal.current_all()
        specs = [service.deployment.spec for service in current if service.deployment]
        spec = named(command.deployment.spec, [*specs, *self._queues.coming_specs(), *self._accepting])
        self._accepting.append(spec)
        try:
            yield renamed(command, spec.service_name)
        finally:
            self._accepting.remove(spec)

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


def named(spec: ServiceSpec, others: Sequence[ServiceSpec]) -> ServiceSpec:
    """The spec under its own name if that is free, else under one with a part of its id. Pure.

    A service that got such a name keeps it: clients use it.
    """
    other_name = replace(spec, service_name=_with_id(spec.service_name, spec.service_id))
    had = {other.service_name for other in others if other.service_id == spec.service_id}
    if other_name.service_name in had:
        return other_name
    own_name = replace(spec, internal_hostname=None)
    return spec if conflict(own_name, others) is None else other_name


def renamed(command: Deploy, name: str) -> Deploy:
    """The command for a service of that name."""
    spec = command.deployment.spec
    if name == spec.service_name:
        return command
    deployment = replace(command.deployment, spec=replace(spec, service_name=name))
    return replace(command, deployment=deployment, asked_name=spec.service_name)


def rename_note(command: Deploy) -> str:
    """A sentence for the report of a deploy that got another name; else empty."""
    spec = command.deployment.spec
    if not command.asked_name:
        return ""
    return (
        f"other services of project {spec.project_name} reach it as {spec.service_name}: "
        f"the name {command.asked_name} was taken when it was first deployed"
    )


def _with_id(name: str, service_id: ServiceId) -> str:
    start = service_id[:_ID_CHARS].lower()
    if not _PLAIN.fullmatch(start):
        start = hashlib.sha256(service_id.encode()).hexdigest()[:_ID_CHARS]
    # A label of a DNS name has 63 characters at most (RFC 1035, 2.3.4).
    return f"{name[: 62 - _ID_CHARS].rstrip('-._')}-{start}"


def _names(spec: ServiceSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The keys of a payload that give names, with the names in lower case: DNS compares without case (RFC 4343)."""
    yield "service_name", _forms(spec.service_name, spec.project_name)
    if spec.internal_hostname:
        yield "networking.internal_hostname", _forms(spec.internal_hostname, spec.project_name)


def _forms(name: str, project: str) -> tuple[str, ...]:
    """A name as it is, and a single label below the project's domain too."""
    short = name.lower().rstrip(".")
    return (short,) if "." in short else (short, f"{short}.{project.lower()}.internal")
