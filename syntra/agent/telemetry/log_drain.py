"""Waits until the telemetry process has all that a stopped container has written, before its log is removed with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from syntra.agent.telemetry.process import NoTelemetry
from syntra.model.fields import Json
from syntra.model.ids import ContainerId

log = logging.getLogger(__name__)

DRAIN_SECS = 3.0
"""The longest that a removal waits."""


class Process(Protocol):
    """The telemetry process; see `process.TelemetryProcess`."""

    @property
    def is_ready(self) -> bool: ...

    async def ask(self, kind: str, fields: Mapping[str, Json] | None = None) -> Mapping[str, Json]: ...


class LogDrain:
    """Drains one log at a time or several."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def __call__(self, container_id: ContainerId) -> None:
        """Return when the log is kept, or after a while; at once without a telemetry process."""
        if not self._process.is_ready:
            return
        try:
            async with asyncio.timeout(DRAIN_SECS):
                await self._process.ask("log_drain", {"container_id": container_id})
        except (TimeoutError, NoTelemetry):
            log.warning("the last log lines of a container may be missing", extra={"container_id": container_id})
