"""Updates of the installed agent: on command, on its own schedule, and what is shown of them."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from syntra.agent.config.update_settings import UpdateSettings
from syntra.agent.messages import CONTROL_PLANE
from syntra.agent.update.installation import is_supervised
from syntra.agent.update.schedule import is_open, secs_to_next_check
from syntra.model.command import UpdateAgent
from syntra.model.fields import Json
from syntra.update.decide import Decision, Wanted
from syntra.update.errors import UpdateError
from syntra.update.settle import mark_reported, record_failure
from syntra.update.state import Outcome, UpdateState
from syntra.update.state_file import read_state
from syntra.update.transfer import Transfer
from syntra.update.updater import DOWNLOAD_SECS, Updater
from syntra.utils.errors import AgentError
from syntra.utils.timestamps import format_secs

log = logging.getLogger(__name__)

CHECK_SECS = 20.0
"""Shorter than the 30 s within which the control plane expects an answer."""
IDLE_WAIT_SECS = 3600.0
"""How long a downloaded version waits for running operations to end."""
STALE_FACTOR = 4
"""A check that has failed for so many intervals is shown as a warning: releases may be held back on the way."""

Say = Callable[[Mapping[str, Json]], Awaitable[None]]


async def _silent(progress: Mapping[str, Json]) -> None:
    return None


class Operations(Protocol):
    """What the agent does to services; see `agent.operations.service_queues`."""

    @property
    def is_idle(self) -> bool:
        """Whether no operation runs or waits."""

    async def until_idle(self) -> None:
        """Wait until no operation runs or waits."""


class Updates:
    """One updater for commands and schedule; one update at a time.

    `end` ends the agent in order. `alert` stores an alert.
    """

    def __init__(
        self,
        updater: Updater | None,
        settings: UpdateSettings,
        running: str,
        *,
        operations: Operations,
        is_connected: Callable[[], bool],
        end: Callable[[str], None],
        alert: Callable[[str, str, Mapping[str, Json]], Awaitable[None]],
        state: UpdateState,
    ) -> None:
        """`updater` is None for an agent that is not installed in a directory of versions."""
        self._updater = updater
        self._settings = settings
        self._running = running
        self._operations = operations
        self._is_connected = is_connected
        self._end = end
        self._alert = alert
        self._state = state
        self._available = ""
        self._problem = ""
        self._busy = asyncio.Lock()
        self._transfer: Transfer | None = None
        self._is_stopping = False

    async def carry_out(
        self, command: UpdateAgent, origin: str, say: Say, answer: Callable[[Mapping[str, Json]], Awaitable[None]]
    ) -> None:
        """Answer, then update. The control plane gets its answer before the download, a person after the swap.

        Raises UpdateError, before the answer only where nothing was answered yet.
        """
        is_remote = origin == CONTROL_PLANE
        if is_remote and self._settings.mode == "off":
            raise UpdateError(
                "updates are off on this server", 'set update.mode in its configuration to "notify" or "auto"'
            )
        wanted = Wanted(
            channel=self._settings.channel if is_remote else command.channel or self._settings.channel,
            version=command.version,
            allow_downgrade=self._settings.allow_downgrade == "on",
            retry_rejected=not is_remote and bool(command.version),
        )
        if is_remote and command.version == self._running:
            # Sent again after the update: a success, even if the release server is away.
            await answer({"from": self._running, "to": self._running, "state": "current"})
            return
        if self._busy.locked():
            raise UpdateError("an update is under way", "wait for its end; see `syntra-agent status`", "BUSY")
        async with self._busy:
            updater = self._installed()
            with await asyncio.to_thread(updater.lock):
                decision = await self._check(updater, wanted)
                found: dict[str, Json] = {"from": self._running, "to": decision.version}
                if decision.artifact is None:
                    await answer({**found, "state": "current"})
                    return
                if command.check_only:
                    await answer({**found, "state": "available", "size": decision.artifact.size})
                    return
                if is_remote:
                    await answer({**found, "state": "accepted"})
                await say({**found, "phase": "found", "size": decision.artifact.size})
                await self._update(updater, decision, say)
                restarts = is_supervised(os.environ)
                if not is_remote:
                    await answer({**found, "state": "restarting" if restarts else "installed"})
                if restarts:
                    self._end(f"updated from {self._running} to {decision.version}")
                else:
                    log.warning("restart the agent to run the new version", extra={"version": decision.version})

    async def run(self) -> None:
        """Report how the last update ended; then check on schedule, until cancelled."""
        outcome = self._state.outcome
        if outcome is not None and not self._state.is_reported:
            await self.report(outcome)
        if self._updater is None or self._settings.mode == "off":
            return
        is_first = True
        while True:
            interval = self._settings.check_interval_secs
            await asyncio.sleep(secs_to_next_check(interval, random.random(), is_first=is_first))
            is_first = False
            await self._scheduled(self._updater)

    async def report(self, outcome: Outcome) -> None:
        """Log an outcome and, unless it is a success, alert."""
        if self._updater is None:
            return
        try:
            await self._report(outcome, self._updater)
        except AgentError as failed:
            # A full disk must not end the agent; the next start reports again.
            log.error("cannot store that the update was reported", extra={"reason": str(failed)})

    async def _report(self, outcome: Outcome, updater: Updater) -> None:
        await self.refresh()
        if outcome.result == "updated":
            log.info("agent was updated", extra={"from": outcome.from_version, "to": outcome.to_version})
        else:
            log.warning("update did not succeed", extra={"result": outcome.result, "reason": outcome.sentence})
            about: dict[str, Json] = {"from": outcome.from_version, "to": outcome.to_version, "result": outcome.result}
            await self._alert("agent update did not succeed", outcome.sentence, about)
        await asyncio.to_thread(mark_reported, updater.root)

    async def refresh(self) -> None:
        """Read the state again, after a change outside this object."""
        if self._updater is not None:
            self._state = await asyncio.to_thread(read_state, self._updater.root)

    def abort(self) -> None:
        """The agent stops: end a download under way. The next start finds it interrupted."""
        self._is_stopping = True
        if self._transfer is not None:
            self._transfer.abort()

    def last(self) -> dict[str, Json]:
        """How the last update ended, for hello; empty when there was none."""
        outcome = self._state.outcome
        if outcome is None:
            return {}
        return {
            "from": outcome.from_version,
            "to": outcome.to_version,
            "result": outcome.result,
            "reason": outcome.reason,
            "at": format_secs(outcome.at),
            "sentence": outcome.sentence,
        }

    def shown(self) -> dict[str, Json]:
        """For `status`."""
        return {
            "mode": self._settings.mode if self._updater is not None else "off",
            "channel": self._settings.channel,
            "available": self._available or None,
            "under_way": self._busy.locked(),
            "last": self.last() or None,
        }

    @property
    def warning(self) -> str:
        """A sentence for `status`; empty when all is well."""
        if self._available:
            return f"version {self._available} of the agent is available: run `syntra-agent update`"
        return self._problem

    async def _scheduled(self, updater: Updater) -> None:
        if self._busy.locked():
            return
        wanted = Wanted(channel=self._settings.channel, allow_downgrade=self._settings.allow_downgrade == "on")
        async with self._busy:
            try:
                with await asyncio.to_thread(updater.lock):
                    decision = await self._check(updater, wanted)
                    self._problem = ""
                    self._available = decision.version if decision.artifact is not None else ""
                    if decision.artifact is None:
                        return
                    log.info("new version of the agent", extra={"version": decision.version})
                    if self._settings.mode != "auto" or not is_supervised(os.environ) or not self._may_install():
                        return
                    await self._update(updater, decision, _silent)
            except AgentError as failed:
                log.warning("update refused", extra={"reason": str(failed)})
                self._problem = self._stale(failed)
                return
        self._end(f"updated from {self._running} to {decision.version}")

    def _may_install(self) -> bool:
        now = time.localtime()
        return is_open(self._settings.window, now.tm_hour, now.tm_min)

    def _stale(self, failed: AgentError) -> str:
        """A refusal is shown at once; an unreachable server only once it lasts."""
        if failed.code != "UPDATE_FAILED":
            return str(failed)
        limit = STALE_FACTOR * self._settings.check_interval_secs
        checked_at = self._state.checked_at
        if checked_at and time.time() - checked_at < limit:
            return ""
        since = format_secs(checked_at) if checked_at else "the start"
        return f"no check for releases succeeded since {since}: {failed}"

    async def _check(self, updater: Updater, wanted: Wanted) -> Decision:
        transfer = self._transfer = Transfer(CHECK_SECS)
        try:
            decision = await asyncio.to_thread(updater.check, wanted, transfer)
        finally:
            transfer.abort()
            self._transfer = None
        self._state = decision.state
        return decision

    async def _update(self, updater: Updater, decision: Decision, say: Say) -> None:
        """Download, wait for running operations, swap. Records and reports a failure."""
        try:
            await self._prepare(updater, decision, say)
            await say({"phase": "waiting" if not self._operations.is_idle else "installing"})
            await self._until_idle()
            await asyncio.to_thread(updater.swap, decision.version, was_connected=self._is_connected())
        except UpdateError as failed:
            if self._is_stopping:
                raise
            await self._record(updater, decision.version, failed)
            raise

    async def _record(self, updater: Updater, version: str, failed: UpdateError) -> None:
        try:
            outcome = await asyncio.to_thread(
                record_failure, updater.root, self._running, version, failed.reason, time.time()
            )
        except UpdateError as unwritable:
            log.error("cannot store how the update ended", extra={"reason": str(unwritable)})
            return
        await self.report(outcome)

    async def _prepare(self, updater: Updater, decision: Decision, say: Say) -> None:
        assert decision.artifact is not None, "cannot happen because the caller has checked it"
        transfer = self._transfer = Transfer(DOWNLOAD_SECS)
        counted = [0]

        def on_bytes(count: int) -> None:
            counted[0] = count

        async def tell() -> None:
            while True:
                await say({"phase": "downloading", "done": counted[0]})
                await asyncio.sleep(0.25)

        try:
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(tell(), name="update progress")
                await asyncio.to_thread(updater.prepare, decision, transfer, on_bytes)
                telling.cancel()
        except* AgentError as failed:
            first = failed.exceptions[0]
            raise (first if isinstance(first, UpdateError) else UpdateError(str(first), "try again")) from None
        finally:
            transfer.abort()
            self._transfer = None

    async def _until_idle(self) -> None:
        try:
            async with asyncio.timeout(IDLE_WAIT_SECS):
                await self._operations.until_idle()
        except TimeoutError:
            raise UpdateError(
                f"operations have been running for {IDLE_WAIT_SECS / 60:g} minutes", "try again later", "UPDATE_FAILED"
            ) from None

    def _installed(self) -> Updater:
        if self._updater is None:
            raise UpdateError(
                "this agent is not installed in a directory of versions",
                "run `syntra-agent update` on the server, which says who owns its program",
            )
        return self._updater
