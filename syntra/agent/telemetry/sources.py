"""The tasks that tell the telemetry process about senders, Prometheus endpoints and logs."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from syntra.agent.changes import Changes
from syntra.agent.config.settings import TelemetrySettings
from syntra.agent.journal.journal import Journal
from syntra.agent.telemetry import logs, scrape_targets, senders
from syntra.agent.telemetry.process import TelemetryProcess

Task = tuple[str, Coroutine[Any, Any, None]]


class Sources(senders.Engine, scrape_targets.Engine, logs.Engine, Protocol):
    """What of a runtime is needed."""


def source_tasks(
    sources: Sources,
    journal: Journal,
    changes: Changes,
    process: TelemetryProcess,
    settings: TelemetrySettings,
    *,
    started_at: float,
    is_network_shared: bool = False,
) -> list[Task]:
    """The tasks by name. `started_at` is the agent's start, epoch seconds; `is_network_shared` as of `Senders`."""
    following = senders.Senders(sources, journal, changes, process, is_network_shared=is_network_shared)
    tasks: list[Task] = [("telemetry senders", following.run())]
    if settings.prometheus.services == "on":
        tasks.append(("scrape targets", scrape_targets.ScrapeTargets(sources, journal, changes, process).run()))
    return [*tasks, *logs.log_tasks(sources, journal, changes, process, settings.logs, started_at=started_at)]
