"""Builds the parts that update the agent, and starts with what the last update left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from syntra import __version__
from syntra.agent.config.update_settings import UpdateSettings
from syntra.agent.journal.database import JournalError
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import Reports
from syntra.agent.update.installation import own_root
from syntra.agent.update.trial_watch import TrialWatch
from syntra.agent.update.updates import Operations, Updates
from syntra.model.fields import Json
from syntra.update.build_target import build_target
from syntra.update.settle import Found, settle
from syntra.update.state import UpdateState
from syntra.update.state_file import read_state
from syntra.update.trial import Finding
from syntra.update.updater import Installation, Updater
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

NOT_HELD = 75
"""The exit code of a version on trial that does not hold: EX_TEMPFAIL of sysexits.h."""


class SelfUpdate:
    """`updates` carries out commands; `tasks` run beside the agent."""

    def __init__(self, updates: Updates, watch: TrialWatch | None) -> None:
        """Use `open`."""
        self.updates = updates
        self._watch = watch

    @classmethod
    async def open(
        cls,
        settings: UpdateSettings,
        configuration: Path | None,
        now: float,
        *,
        journal: Journal,
        reports: Reports,
        operations: Operations,
        ping: Callable[[], Awaitable[object]],
        is_connected: Callable[[], bool],
        end: Callable[[str, int], None],
    ) -> SelfUpdate:
        """Read what the last update left behind. A damaged or unreadable directory only disables updates.

        `configuration` is the file in use. `end` ends the agent with a reason and an exit code.
        """
        root = own_root()
        state = UpdateState()
        found = Found(finding=Finding.NOTHING, trial=None)
        if root is not None:
            try:
                found = await asyncio.to_thread(settle, root, __version__, now)
                state = await asyncio.to_thread(read_state, root)
            except AgentError as failed:
                log.error("the state of updates is not usable", extra={"reason": str(failed)})
        updater = None
        if root is not None:
            arguments = ("--config", str(configuration)) if configuration is not None else ()
            installation = Installation(root=root, running=__version__, target=build_target(), configuration=arguments)
            updater = Updater(installation, base_url=settings.base_url, root_keys_file=settings.root_keys_file)

        async def alert(title: str, message: str, about: Mapping[str, Json]) -> None:
            frame = reports.alert(
                kind="deployment_failed",
                severity="warning",
                title=title,
                message=message,
                service_id=None,
                metadata={"subject": "agent", **about},
            )
            try:
                await journal.outbox.add(frame)
            except JournalError as unwritable:
                log.error("cannot store the alert", extra={"reason": str(unwritable)})

        updates = Updates(
            updater,
            settings,
            __version__,
            operations=operations,
            is_connected=is_connected,
            end=lambda reason: end(reason, 0),
            alert=alert,
            state=state,
        )
        watch = None
        if root is not None:
            watch = TrialWatch(
                root,
                __version__,
                found,
                ping=ping,
                is_connected=is_connected,
                end=lambda reason: end(reason, NOT_HELD),
                confirm_secs=settings.confirm_secs,
                timeout_secs=settings.confirm_timeout_secs,
                on_outcome=updates.report,
                on_rejected=updates.refresh,
            )
        return cls(updates, watch)

    def tasks(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """The tasks to run until the agent stops."""
        tasks = [("updates", self.updates.run())]
        return [*tasks, ("trial of this version", self._watch.run())] if self._watch is not None else tasks
