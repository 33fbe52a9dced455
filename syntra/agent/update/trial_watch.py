"""After a start: judges a version on trial, and records how the last update ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from syntra.agent.update.judgement import Condition, Judgement, Verdict
from syntra.update import layout
from syntra.update.settle import Found, confirm, reject
from syntra.update.state import Outcome
from syntra.update.trial import Finding
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

OBSERVE_SECS = 1.0
RETRY_SECS = 10.0
ENGINE_SECS = 10.0


class TrialWatch:
    """`ping` raises AgentError while the engine does not answer. `end` ends the agent; its manager starts it again."""

    def __init__(
        self,
        root: Path,
        running: str,
        found: Found,
        *,
        ping: Callable[[], Awaitable[object]],
        is_connected: Callable[[], bool],
        end: Callable[[str], None],
        confirm_secs: float,
        timeout_secs: float,
        on_outcome: Callable[[Outcome], Awaitable[None]],
        on_rejected: Callable[[], Awaitable[None]],
    ) -> None:
        self._root = root
        self._running = running
        self._found = found
        self._ping = ping
        self._is_connected = is_connected
        self._end = end
        self._confirm_secs = confirm_secs
        self._timeout_secs = timeout_secs
        self._on_outcome = on_outcome
        self._on_rejected = on_rejected

    async def run(self) -> None:
        """Returns when there is nothing left to judge."""
        trial = self._found.trial
        if trial is None:
            return
        if self._found.finding is Finding.ON_TRIAL:
            await self._judge(needs_connection=trial.was_connected)
        elif self._found.is_undecided and await self._is_in_order(needs_connection=trial.was_connected):
            # This version is in order, so the new one is to blame. Otherwise the next check tries it again.
            log.warning("version rejected", extra={"version": trial.to_version, "reason": trial.reason})
            try:
                await asyncio.to_thread(reject, self._root, trial.to_version, trial.reason)
                await self._on_rejected()
            except AgentError as failed:
                log.error("cannot store that the version is rejected", extra={"reason": str(failed)})

    async def _judge(self, *, needs_connection: bool) -> None:
        judgement = self._judgement(needs_connection=needs_connection)
        while True:
            match judgement.observe(await self._condition(), time.monotonic()):
                case Verdict.KEEP:
                    await self._keep()
                    return
                case Verdict.END:
                    log.error("this version does not hold", extra={"reason": judgement.reason})
                    await self._note(judgement.reason)
                    self._end(judgement.reason)
                    return
                case Verdict.WAIT:
                    await asyncio.sleep(OBSERVE_SECS)

    async def _keep(self) -> None:
        while True:
            try:
                outcome = await asyncio.to_thread(confirm, self._root, self._running, time.time())
                removed = await asyncio.to_thread(layout.remove_old_versions, self._root, frozenset({self._running}))
                break
            except AgentError as failed:
                # A full disk is no reason to end a version that holds.
                log.error("cannot store that this version holds", extra={"reason": str(failed)})
                await asyncio.sleep(RETRY_SECS)
        log.info("this version holds", extra={"version": self._running, "removed": ", ".join(removed) or "nothing"})
        if outcome is not None:
            await self._on_outcome(outcome)

    async def _note(self, reason: str) -> None:
        try:
            await asyncio.to_thread(layout.add_reason, self._root, reason)
        except AgentError as failed:
            log.error("cannot store why this version ends", extra={"reason": str(failed)})

    async def _is_in_order(self, *, needs_connection: bool) -> bool:
        judgement = self._judgement(needs_connection=needs_connection)
        while True:
            verdict = judgement.observe(await self._condition(), time.monotonic())
            if verdict is not Verdict.WAIT:
                return verdict is Verdict.KEEP
            await asyncio.sleep(OBSERVE_SECS)

    def _judgement(self, *, needs_connection: bool) -> Judgement:
        return Judgement(
            needs_connection=needs_connection,
            confirm_secs=self._confirm_secs,
            timeout_secs=self._timeout_secs,
            began=time.monotonic(),
        )

    async def _condition(self) -> Condition:
        try:
            async with asyncio.timeout(ENGINE_SECS):
                await self._ping()
            answers = True
        except (AgentError, TimeoutError):
            answers = False
        return Condition(engine_answers=answers, is_connected=self._is_connected())
