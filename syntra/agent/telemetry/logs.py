"""The collection of container logs, wired: what runs in the agent, and what a removal waits for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from syntra.agent.changes import Changes
from syntra.agent.config.log_settings import LogSettings
from syntra.agent.telemetry import log_streams, log_targets
from syntra.agent.telemetry.log_drain import LogDrain
from syntra.agent.telemetry.process import TelemetryProcess
from syntra.model.ids import ContainerId

Task = tuple[str, Coroutine[Any, Any, None]]


class Engine(log_streams.Engine, log_targets.Engine, Protocol):
    """What of the engine is needed."""


def log_tasks(
    engine: Engine,
    services: log_targets.Services,
    changes: Changes,
    process: TelemetryProcess,
    settings: LogSettings,
    *,
    started_at: float,
) -> list[Task]:
    """The tasks that run beside the telemetry process, by name. `started_at` is the agent's start, epoch seconds."""
    if settings.containers == "off":
        return []
    targets = log_targets.LogTargets(engine, services, changes, process, settings, since_ns=int(started_at * 1e9))
    return [("log targets", targets.run()), ("log streams", log_streams.LogStreams(engine, process).run())]


def log_drain(
    process: TelemetryProcess | None, settings: LogSettings
) -> Callable[[ContainerId], Awaitable[None]] | None:
    """What a removal waits for; None when no logs are collected."""
    return LogDrain(process) if process is not None and settings.containers != "off" else None
