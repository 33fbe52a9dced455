"""All targets: one task each, started and ended as the targets change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from syntra.model.fields import Json
from syntra.telemetry.collect.prometheus.scraper import Scraper, Surroundings
from syntra.telemetry.collect.prometheus.target import Target

_END_SECS = 5.0


class Scrapers:
    """`run` it until it is cancelled; `update` replaces the targets at any time."""

    def __init__(self, around: Surroundings, *, max_targets: int, fixed: Sequence[Target] = ()) -> None:
        """`fixed` are the targets of the configuration, which are always there."""
        self._around = around
        self._max = max_targets
        self._fixed = tuple(fixed)
        self._wanted: tuple[Target, ...] = self._fixed[:max_targets]
        self._refused = len(self._fixed) - len(self._wanted)
        self._running: dict[Target, tuple[Scraper, asyncio.Task[None]]] = {}
        self._news = asyncio.Event()
        self._news.set()

    def update(self, targets: Sequence[Target]) -> None:
        """Replace all targets but the fixed ones."""
        every = tuple(dict.fromkeys([*self._fixed, *targets]))
        self._wanted = every[: self._max]
        self._refused = len(every) - len(self._wanted)
        self._news.set()

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._news.wait()
                self._news.clear()
                wanted = self._wanted
                await self._end([target for target in self._running if target not in wanted])
                for target in wanted:
                    if target not in self._running:
                        scraper = Scraper(target, self._around)
                        task = group.create_task(scraper.run(), name=f"scrape {target.url}")
                        self._running[target] = scraper, task

    def view(self) -> Mapping[str, Json]:
        """What `telemetry status` shows."""
        return {
            "targets": [scraper.view() for scraper, _ in self._running.values()],
            "refused_targets": self._refused,
            "max_targets": self._max,
        }

    async def _end(self, gone: Sequence[Target]) -> None:
        ended = [self._running.pop(target) for target in gone]
        for _, task in ended:
            task.cancel()
        for scraper, task in ended:
            await asyncio.wait([task], timeout=_END_SECS)
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_SECS):
                    await scraper.end()
