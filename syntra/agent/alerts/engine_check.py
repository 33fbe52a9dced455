"""Pings the runtime, and sends one alert when it becomes unavailable and one when it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from syntra.agent.journal.database import JournalError
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import Reports
from syntra.model.fields import Json
from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.runtime import Availability

log = logging.getLogger(__name__)

ENGINE_CHECK_SECS = 10.0
_CALLED = {"docker": "Docker", "podman": "Podman", "kubernetes": "Kubernetes"}


class EngineCheck:
    """`warning` is a sentence for `status` while the runtime is away. `on_answer` is called after each answer.

    `name` is what people call the runtime: `docker`, `podman` or `kubernetes`.
    """

    def __init__(
        self,
        runtime: Availability,
        journal: Journal,
        reports: Reports,
        *,
        name: Callable[[], str],
        on_answer: Callable[[], Awaitable[None]],
    ) -> None:
        self._runtime = runtime
        self._name = name
        self._journal = journal
        self._reports = reports
        self._on_answer = on_answer
        self.warning = ""

    async def run(self) -> None:
        """Ping until cancelled."""
        while True:
            try:
                await self._runtime.ping()
                await self._on_answer()
                if self.warning:
                    log.info("engine answers again")
                    self.warning = ""
                    await self._alert(f"{self._called} answers again", "it takes calls", {"recovered": True})
            except RuntimeFailure as lost:
                if not self.warning:
                    log.error("engine does not answer", extra={"reason": str(lost)})
                    self.warning = str(lost)
                    await self._alert(f"{self._called} does not answer", self.warning, {})
            except JournalError as unwritable:
                log.error("cannot store the rebuilt state", extra={"reason": str(unwritable)})
            await asyncio.sleep(ENGINE_CHECK_SECS)

    @property
    def _called(self) -> str:
        return _CALLED.get(self._name(), self._name())

    async def _alert(self, title: str, message: str, about: dict[str, Json]) -> None:
        alert = self._reports.alert(
            kind="resource_critical",
            severity="critical",
            title=title,
            message=message,
            service_id=None,
            metadata={"resource": "engine", **about},
        )
        try:
            await self._journal.outbox.add(alert)
        except JournalError as unwritable:
            log.error("cannot store the alert", extra={"reason": str(unwritable)})
