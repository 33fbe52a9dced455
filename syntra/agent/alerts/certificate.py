"""An alert when the client certificate of the agent ends soon and is not renewed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from syntra.agent.alerts.ledger import AlertLedger
from syntra.connection.enrolment import DAY_SECS, CertificateFacts, alert_at
from syntra.health.episodes import Subject
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

RECHECK_SECS = 60.0
SUBJECT = Subject(key="certificate:control-plane", name="the client certificate of this server")


class CertificateWatch:
    """Watches the certificate in force, issued or put there by hand. `clock` returns seconds since the epoch."""

    def __init__(
        self,
        ledger: AlertLedger,
        facts: Callable[[], CertificateFacts | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._facts = facts
        self._clock = clock

    async def run(self) -> None:
        """Check every minute until cancelled."""
        while True:
            try:
                await self.check()
            except AgentError as failed:
                log.error("cannot check the client certificate", extra={"reason": str(failed)})
            await asyncio.sleep(RECHECK_SECS)

    async def check(self) -> None:
        """Check once. An unknown certificate changes nothing. Raises the journal's errors."""
        facts = self._facts()
        if facts is None:
            return
        left = (facts.not_after - self._clock()) / DAY_SECS
        alert_days = (facts.not_after - alert_at(facts)) / DAY_SECS
        await self._ledger.record(lambda episodes, now: episodes.certificate(now, SUBJECT, left, alert_days))
