"""The parts of a telemetry process for tests: its settings, a pipeline over a real ring, and requests for it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syntra.agent.config.settings import Settings, TelemetrySettings
from syntra.agent.telemetry.configuration import configuration
from syntra.model.fields import Json
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.process.admission import MemoryBudget
from syntra.telemetry.process.counts import Counts
from syntra.telemetry.process.pipeline import Pipeline
from syntra.telemetry.process.senders import Senders
from syntra.telemetry.process.settings import ProcessSettings, parse_settings
from syntra.telemetry.process.tails import Tails
from syntra.telemetry.processing.processor import ProcessingSettings, Processor
from syntra.telemetry.signals import Signal
from tests.telemetry.processing.requests import ERRORS, span, traces

IDENTITY = {
    "service_id": "svc_web",
    "service_name": "web",
    "project": "shop",
    "deployment_id": "dep_1",
    "container_id": "c0ffee",
    "replica": "syn-web-1",
    "image": "registry.example/web:1",
}


def configure(data_dir: Path, **telemetry: Any) -> dict[str, Json]:
    """The fields of `configure`, as the agent sends them."""
    settings = Settings(data_dir=data_dir, telemetry=TelemetrySettings(**telemetry))
    return configuration(settings, agent_id="agt_1", server_id="srv_1")


def process_settings(data_dir: Path = Path("/unused"), **telemetry: Any) -> ProcessSettings:
    """The same as the process has them."""
    return parse_settings(configure(data_dir, **telemetry))


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def one_span(name: str = "GET /", *, service: str = "web", count: int = 1) -> bytes:
    """A request with valid spans."""
    rng = random.Random(name)
    return traces(*(span(rng, name=name) for _ in range(count)), service=service)


@dataclass
class Rig:
    """A pipeline, and everything around it."""

    ring: Buffer
    senders: Senders
    counts: Counts
    tails: Tails
    budget: MemoryBudget
    pipeline: Pipeline
    shown: list[tuple[str, Mapping[str, Any]]]

    def stored(self, signal: Signal) -> int:
        """Items in the ring."""
        return self.ring.stats().signals[signal].stored_items


@contextmanager
def pipeline(directory: Path, *, max_bytes: int = 1 << 20) -> Iterator[Rig]:
    """A pipeline over a ring in `directory`."""
    ring = Buffer.open(directory, max_bytes=max_bytes)
    ring.reader("test", list(Signal))
    shown: list[tuple[str, Mapping[str, Any]]] = []

    async def send(kind: str, fields: Mapping[str, Json]) -> None:
        shown.append((kind, fields))

    counts, senders, tails, budget = Counts(Clock()), Senders(wait_secs=0.05), Tails(send), MemoryBudget(1 << 20)
    made = Pipeline(
        budget=budget,
        senders=senders,
        processor=Processor(ProcessingSettings(sampling_rate=1.0, target_spans_per_sec=1e6), ERRORS),
        ring=ring,
        counts=counts,
        watcher=tails,
    )
    try:
        yield Rig(ring=ring, senders=senders, counts=counts, tails=tails, budget=budget, pipeline=made, shown=shown)
    finally:
        ring.close()
