"""Deletes telemetry that is older than the control plane keeps it."""

from __future__ import annotations

import asyncio
import logging

from syntra.controlplane.clock import Clock
from syntra.controlplane.errors import StoreError
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.telemetry.store import expire
from syntra.utils.timestamps import format_secs, parse_ns

_log = logging.getLogger(__name__)

EVERY_SECS = 3600.0
_DAY_SECS = 86_400


async def expire_regularly(store: StoreThread, days: int, clock: Clock, every_secs: float = EVERY_SECS) -> None:
    """Delete telemetry that was received more than `days` ago, now and then at intervals, until cancelled."""
    while True:
        now_secs = (parse_ns(clock()) or 0) / 1e9
        before = format_secs(now_secs - days * _DAY_SECS)
        try:
            others = True
            while others:
                others = await store.run(expire, before)
        except StoreError as exc:
            _log.error("cannot delete old telemetry", extra={"reason": str(exc)})
        await asyncio.sleep(every_secs)
