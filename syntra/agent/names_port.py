"""What whoever leads traffic asks of whoever answers for names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from syntra.agent.reachable import NamedService
from syntra.model.status import Replica


class Names(Protocol):
    """Who answers for the names of services."""

    async def prepare(self, project: str) -> None:
        """The project's network is there: listen on it."""

    def show(self, services: Iterable[NamedService]) -> None:
        """These are all services, from now on."""

    def see(self, replicas: Sequence[Replica]) -> None:
        """These are all containers there are."""

    async def refresh(self, projects: frozenset[str]) -> None:
        """Listen on the networks of exactly these projects; one that cannot be listened on is said."""

    async def until_forgotten(self, addresses: Iterable[str]) -> None:
        """Return once no client may remember any of the addresses from an answer."""

    @property
    def problems(self) -> Sequence[str]:
        """Sentences for the status."""
