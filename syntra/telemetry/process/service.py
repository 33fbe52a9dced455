"""All parts of the telemetry process: built here, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from syntra.model.fields import Json
from syntra.telemetry.buffer.reader import Reader
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.intake import Request
from syntra.telemetry.link import Link
from syntra.telemetry.otlp.grpc_limits import GrpcLimits
from syntra.telemetry.otlp.grpc_server import GrpcReceiver
from syntra.telemetry.otlp.http_limits import HttpLimits
from syntra.telemetry.otlp.http_server import HttpReceiver
from syntra.telemetry.process.admission import MemoryBudget
from syntra.telemetry.process.container_logs import ContainerLogs
from syntra.telemetry.process.control_plane import ControlPlane
from syntra.telemetry.process.counts import Counts
from syntra.telemetry.process.drops import Drops
from syntra.telemetry.process.figures import Figures
from syntra.telemetry.process.listeners import Listeners, Receiver, loopback_addresses
from syntra.telemetry.process.pipeline import Pipeline
from syntra.telemetry.process.scraping import replica_targets, scrapers
from syntra.telemetry.process.self_metrics import self_metrics
from syntra.telemetry.process.senders import Senders
from syntra.telemetry.process.settings import ProcessSettings
from syntra.telemetry.process.status import status_view
from syntra.telemetry.process.tails import Tails
from syntra.telemetry.process.tls import grpc_tls, http_tls
from syntra.telemetry.processing import errors
from syntra.telemetry.processing.outcome import ErrorExtractor
from syntra.telemetry.processing.processor import ProcessingSettings, Processor
from syntra.telemetry.shipping.destination import Destination
from syntra.telemetry.shipping.export import FULL_BATCHES, open_exporter
from syntra.telemetry.shipping.shipper import BatchLimits, Shipper
from syntra.telemetry.signals import Signal
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

RED_SECS = 15.0
"""How often RED metrics are written."""
_TICK_SECS = 1.0
FINISH_SECS = 5.0
_GRACE_SECS = 1.0
CONTROL_PLANE = "control-plane"
"""The control plane's name as a destination."""

Task = tuple[str, Coroutine[Any, Any, None]]


class TelemetryService:
    """The parts. `open` comes first, then `tasks` run; `finish` ships what is left, `close` ends everything."""

    def __init__(self, settings: ProcessSettings, link: Link) -> None:
        self.settings = settings
        self._link = link
        self.clock: Callable[[], float] = time.monotonic
        self.counts = Counts(self.clock)
        self.senders = Senders()
        self.tails = Tails(self._say)
        self.figures = Figures()
        self.control_plane = ControlPlane(settings.agent_id, settings.server_id, link.send)
        self.budget = MemoryBudget(settings.receive_memory_bytes)
        self.processor = Processor(
            ProcessingSettings(
                sampling_rate=settings.sampling_rate, target_spans_per_sec=settings.target_spans_per_sec
            ),
            ErrorExtractor(
                from_span=partial(errors.from_span, new_id=_new_id),
                from_log=partial(errors.from_log, new_id=_new_id, now_ns=time.time_ns),
                encode=errors.encode,
            ),
            clock=self.clock,
        )
        self.readers: dict[str, Reader] = {}
        self.shippers: dict[str, Shipper[Any]] = {}
        self._told: str | None = None
        self._drops = Drops()
        self._targets: list[Destination] = []
        self._receivers: dict[tuple[str, bool], GrpcReceiver | HttpReceiver] = {}

    async def open(self) -> None:
        """Open the ring, the receivers and the shippers."""
        settings = self.settings
        self.buffer = await asyncio.to_thread(
            Buffer.open,
            Path(settings.data_dir) / "telemetry",
            max_bytes=settings.buffer_max_bytes,
            fsync=settings.buffer_fsync,
        )
        self.pipeline = Pipeline(
            budget=self.budget,
            senders=self.senders,
            processor=self.processor,
            ring=self.buffer,
            counts=self.counts,
            watcher=self.tails,
        )
        self.scrapers = scrapers(settings.scraping, self.pipeline)
        self.container_logs = ContainerLogs(self.pipeline, self.buffer, self._link.send)
        self._open_shippers()
        self.listeners = Listeners(settings, self._receiver, loopback=loopback_addresses())
        await self.listeners.open()

    def tasks(self) -> list[Task]:
        """What runs until it is cancelled, by name."""
        return [
            ("listeners", self.listeners.run()),
            ("scrapers", self.scrapers.run()),
            ("tails", self.tails.run()),
            ("container logs", self.container_logs.run()),
            ("figures", self.figures.run(self.pipeline.keep)),
            ("ticks", self._tick()),
        ]

    def receiving(self) -> list[Task]:
        """What runs until `finish` has closed it, by name."""
        return [
            (f"otlp grpc {number}", receiver.run())
            for number, receiver in enumerate(self._receivers.values())
            if isinstance(receiver, GrpcReceiver)
        ]

    def shipping(self) -> list[Task]:
        """What runs until `finish`, by name."""
        return [(f"ship to {name}", shipper.run()) for name, shipper in self.shippers.items()]

    async def finish(self) -> None:
        """Receive nothing more, and let the shippers end within a bound; the ring keeps what is left."""
        async with asyncio.TaskGroup() as group:
            for receiver in self._receivers.values():
                # Together: the agent waits only so long.
                if isinstance(receiver, HttpReceiver):
                    closing: Coroutine[Any, Any, None] = asyncio.to_thread(receiver.close, _GRACE_SECS)
                else:
                    closing = receiver.close(_GRACE_SECS)
                group.create_task(closing, name="close receiver")
            group.create_task(self.container_logs.close(), name="close container logs")
        self._keep_red_metrics()
        self.control_plane.finish()
        for shipper in self.shippers.values():
            shipper.finish(FINISH_SECS)

    async def close(self) -> None:
        """Close the connections of the exporters, and the ring."""
        for target in self._targets:
            await target.aclose()
        await asyncio.to_thread(self.buffer.close)

    def follow_control_plane(self, fields: Mapping[str, Any]) -> None:
        """Take a `control_plane` message: what the connection is like, and how often it wants batches."""
        self.control_plane.update(fields)
        shipper = self.shippers.get(CONTROL_PLANE)
        if shipper is not None and self.control_plane.interval_secs is not None:
            shipper.set_interval(self.control_plane.interval_secs)

    def scrape(self, targets: Sequence[Mapping[str, Any]]) -> None:
        """Take a `scrape_targets` message."""
        self.scrapers.update(replica_targets(self.settings.scraping, targets))

    def agent_is_gone(self) -> None:
        """Nothing reaches the control plane any more."""
        self.control_plane.update({"is_connected": False})

    def status(self) -> dict[str, Json]:
        """What `telemetry status` shows."""
        return status_view(self)

    @property
    def problem(self) -> str | None:
        """What keeps telemetry from being received, kept or shipped, as a sentence."""
        stats = self.buffer.stats()
        if stats.memory_only:
            return f"telemetry is kept in memory only: {stats.reason}"
        if stats.reason:
            return f"the telemetry buffer is not forced to disk: {stats.reason}"
        if self._drops.is_recent(self.clock()):
            return self._drops.sentence
        problems = [shipper.problem for shipper in self.shippers.values()]
        return next(filter(None, [self.listeners.problem, *problems]), None)

    def _open_shippers(self) -> None:
        settings = self.settings
        wanted: dict[str, tuple[Any, frozenset[Signal]]] = {}
        if settings.has_control_plane:
            wanted[CONTROL_PLANE] = (self.control_plane, frozenset(Signal))
        if settings.export is not None:
            wanted["export"] = (open_exporter(settings.export), settings.export_signals)
        for name in self.buffer.consumers() - wanted.keys():
            self.buffer.forget(name)
        limits = BatchLimits(interval_secs=settings.batch_interval_secs, max_items=settings.batch_max_items)
        for name, (target, signals) in wanted.items():
            self._targets.append(target)
            self.readers[name] = self.buffer.reader(name, signals)
            # A control plane takes batches of the size that it knows.
            own = replace(limits, full_batches=FULL_BATCHES) if name == "export" else limits
            self.shippers[name] = Shipper(self.readers[name], target, own)

    def _receiver(self, protocol: str, with_tls: bool) -> Receiver:
        found = self._receivers.get((protocol, with_tls))
        if found is None:
            found = self._receivers[protocol, with_tls] = self._made(protocol, with_tls)
        return _Threaded(found) if isinstance(found, HttpReceiver) else found

    def _made(self, protocol: str, with_tls: bool) -> GrpcReceiver | HttpReceiver:
        settings = self.settings
        if protocol == "grpc":
            return GrpcReceiver(
                self.pipeline,
                port=settings.grpc_port,
                limits=GrpcLimits(
                    max_request_bytes=settings.max_request_bytes, max_memory_bytes=settings.receive_memory_bytes
                ),
                tls=grpc_tls(settings.tls) if with_tls else None,
            )
        return HttpReceiver(
            self.pipeline,
            _read_json,
            port=settings.http_port,
            limits=HttpLimits(
                max_request_bytes=settings.max_request_bytes, max_memory_bytes=settings.receive_memory_bytes
            ),
            cors_origins=settings.cors_origins,
            # Figures about the host are for the host only; a listener that others reach has none.
            routes={} if with_tls else {"/metrics": lambda: self_metrics(self)},
            tls=http_tls(settings.tls) if with_tls else None,
        )

    async def _tick(self) -> None:
        red_at = self.clock() + RED_SECS
        while True:
            await asyncio.sleep(_TICK_SECS)
            self.counts.mark()
            self._drops.look(self.clock(), self.buffer.stats())
            if self.clock() >= red_at:
                red_at = self.clock() + RED_SECS
                self._keep_red_metrics()
            if (problem := self.problem) != self._told:
                self._told = problem
                await self._say("problem", {"sentence": problem})

    async def _say(self, kind: str, fields: Mapping[str, Json]) -> None:
        """Send the agent a message. Without an agent the process ends soon; until then it works as before."""
        with suppress(OSError):
            await self._link.send(kind, fields)

    def _keep_red_metrics(self) -> None:
        record = self.processor.drain(time.time_ns())
        if record is not None:
            try:
                self.pipeline.keep([record])
            except AgentError as refused:
                log.warning("RED metrics are lost", extra={"reason": str(refused)})


class _Threaded:
    """An HTTP receiver, for a caller on an event loop."""

    def __init__(self, receiver: HttpReceiver) -> None:
        self._receiver = receiver

    async def listen(self, address: str) -> int:
        return self._receiver.listen(address)

    async def unlisten(self, address: str) -> None:
        self._receiver.unlisten(address)


def _new_id() -> str:
    return str(uuid.uuid4())


def _read_json(signal: Signal, body: bytes, reserve: Callable[[int], None]) -> Request:
    """Decode OTLP/JSON. The decoder is loaded with the first request, because its tables take memory."""
    from syntra.telemetry.otlp.json_decoder import read_json

    return read_json(signal, body, reserve)
