"""The agent's end of the control-plane connection: sends hello and heartbeats, and routes what it receives."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from syntra import __version__
from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.api.dialect_door import DialectDoor
from syntra.agent.api.own_certificate import OwnCertificate, connection_settings
from syntra.agent.api.queries import Identity
from syntra.agent.api.router import Router
from syntra.agent.api.service_views import ServiceView, ServiceViews, container_status
from syntra.agent.config.settings import Settings
from syntra.agent.figures.sampler import Sampler
from syntra.agent.health.results import HealthResult, HealthShipping
from syntra.agent.journal.outbox import Outbox
from syntra.agent.messages import CONTROL_PLANE, PeerGone, envelope
from syntra.connection.codec import Envelope
from syntra.connection.dialect.hub import Hub, is_stub
from syntra.connection.enrolment import CERT_ENROLMENT, CERT_RESPONSE
from syntra.connection.errors import NotConnected
from syntra.connection.messages import BINARY_TELEMETRY, HelloAck, TelemetryAck
from syntra.connection.session import State
from syntra.connection.transport import Transport
from syntra.model.fields import Json
from syntra.runtime.errors import RuntimeFailure
from syntra.runtime.runtime import Availability
from syntra.utils.errors import AgentError
from syntra.utils.host import HostMeter, facts
from syntra.utils.structured_log import LogHandle
from syntra.utils.timestamps import format_secs

log = logging.getLogger(__name__)

PROTOCOL_VERSION = "1.0"
# An engine that hangs must not block hello and heartbeat: without them the whole server counts as offline. A heartbeat
# waits for the engine for at most half its interval.
HELLO_ENGINE_SECS = 3.0
ENGINE_SECS = 10.0
CAPABILITIES = (
    "deploy",
    "deploy.rolling",
    "deploy.instant",
    "deploy.blue_green",
    "deploy.canary",
    "stop",
    "scale",
    "restart",
    "rollback",
    "promote",
    "abort",
    "pause",
    "resume",
    "configure_health_check",
    "exec",
    "logs",
    "metrics",
    "plan",
    "update_agent",
)


class ControlLink:
    """The router's peer for all commands of the control plane."""

    origin = CONTROL_PLANE
    share = CONTROL_PLANE

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        *,
        runtime: Availability,
        views: ServiceViews,
        sampler: Sampler,
        outbox: Outbox,
        door: DialectDoor,
        log_handle: LogHandle,
        health_results: Callable[[], Sequence[HealthResult]],
        extensions: Sequence[str] = (),
        on_telemetry_ack: Callable[[TelemetryAck], None] = lambda ack: None,
        on_change: Callable[[], None] = lambda: None,
        about_update: Callable[[], Mapping[str, Json]] = dict,
        note: Callable[[str, str], object] = lambda kind, text: None,
    ) -> None:
        """`door` translates frames; `health_results` returns the probe results since its last call.

        `extensions` are the extensions of the contract that hello offers; `features` tells which of them the control
        plane uses. `on_telemetry_ack` gets its answers to batches of telemetry, `on_change` is called when
        `is_connected` or what the control plane asks for may have changed; neither may block. `about_update` is
        how the last update of the agent ended, for hello; empty when there was none. `note` gets events.
        """
        assert settings.control_plane is not None, "cannot happen because only an agent with one makes a link"
        self._note = note
        self._identity = identity
        self._runtime = runtime
        self._views = views
        self._sampler = sampler
        self._outbox = outbox
        self._door = door
        self._log_handle = log_handle
        self._meter = HostMeter(settings.data_dir)
        self._data_dir = settings.data_dir
        self._on_change = on_change
        self._about_update = about_update
        self._offered = frozenset(extensions)
        self._agreed: frozenset[str] = frozenset()
        self._batch_secs = float(settings.telemetry.batch_interval_secs)
        self._router: Router | None = None
        self._pending: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(1000)
        # The engine's last answer, for heartbeats while it does not answer.
        self._last_views: list[ServiceView] = []
        self._certificate = OwnCertificate(
            settings, identity.server_id, send=self._send_message, redial=lambda reason: self._transport.redial(reason)
        )
        self._transport = Transport(
            settings=connection_settings(settings),
            hello=self._hello,
            heartbeat=self._heartbeat,
            deliver=self._deliver,
            on_ready=self._ready,
            on_lost=self._lost,
            outbox=outbox,
            on_telemetry_ack=on_telemetry_ack,
            translate=door.translate,
            tls=self._certificate.tls,
            on_failure=self._certificate.failed,
        )
        self._shipping = HealthShipping(
            identity.agent_id,
            drain=health_results,
            is_connected=lambda: self.is_connected,
            send=self.stream,
            pause_secs=lambda: self._batch_secs,
        )

    def route_to(self, router: Router) -> None:
        """Set the router for commands; call it before `run`."""
        self._router = router

    async def run(self, ledger: AlertLedger | None = None) -> None:
        """Stay connected until `stop`, or until cancelled. `ledger` gets the alert about the client certificate."""
        await self._door.load()
        async with asyncio.TaskGroup() as group:
            pending = group.create_task(self._deliver_pending(), name="pending deployments")
            shipping = group.create_task(self._shipping.run(), name="health results")
            certificate = group.create_task(self._certificate.run(ledger), name="client certificate")
            await self._transport.run()
            pending.cancel()
            shipping.cancel()
            certificate.cancel()

    async def stop(self) -> None:
        """Close the connection with code 1000 (normal closure)."""
        await self._transport.stop()

    @property
    def is_connected(self) -> bool:
        """Whether the control plane has accepted the agent on the current connection."""
        return self._transport.status.state is State.READY

    @property
    def features(self) -> frozenset[str]:
        """The extensions that hello offered and the control plane named. Empty while not connected, and for the hub."""
        return frozenset() if self.is_hub else self._agreed

    @property
    def _extensions(self) -> frozenset[str]:
        return self._offered | ({CERT_ENROLMENT} if self._certificate.is_issued else frozenset())

    @property
    def is_hub(self) -> bool:
        """Whether the control plane is the hub, whose telemetry has a shape of its own."""
        return self._door.name == Hub.name

    @property
    def batch_secs(self) -> float:
        """The time between two batches of telemetry that is in force."""
        return self._batch_secs

    def status(self) -> dict[str, Json]:
        """The connection as `status` shows it."""
        status = self._transport.status
        return {
            "endpoint": status.endpoint,
            "state": status.state.value,
            "detail": status.detail,
            "since_seconds": round(status.since_secs, 1),
            "round_trip_ms": round(status.round_trip_secs * 1000, 1) if status.round_trip_secs is not None else None,
            "attempts": status.attempts,
            "dialect": self._door.name,
            "certificate": self._certificate.shown(),
        }

    async def respond(self, payload: Mapping[str, Json]) -> None:
        await self._outbox.add(envelope("command_response", payload))

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None:
        try:
            await self._send_message(kind, payload)
        except NotConnected as gone:
            raise PeerGone(str(gone)) from gone

    async def _send_message(self, kind: str, payload: Mapping[str, Json]) -> None:
        message = Envelope(id=str(uuid.uuid4()), type=kind, timestamp=format_secs(time.time()), payload=payload)
        for frame in self._door.outgoing(message):
            await self._transport.send_stream(frame)

    async def send_binary(self, data: bytes) -> None:
        """Send an encoded TelemetryFrame, of 1 MiB at most if possible; returns when the socket has it.

        Raises PeerGone when it was not sent: no connection, or `features` has no `binary_telemetry`.
        """
        if BINARY_TELEMETRY not in self.features:
            raise PeerGone("cannot send a binary frame: the control plane did not agree to binary_telemetry")
        try:
            await self._transport.send_stream_binary(data)
        except NotConnected as gone:
            raise PeerGone(str(gone)) from gone

    async def _hello(self) -> Mapping[str, Any]:
        host = await asyncio.to_thread(facts, self._data_dir)
        try:
            async with asyncio.timeout(HELLO_ENGINE_SECS):
                runtime = await self._runtime.info()
            name, version = runtime.name, runtime.version
        except (RuntimeFailure, TimeoutError) as away:
            # The server must come online to report that its engine is down.
            log.warning("engine does not answer", extra={"reason": _reason(away, HELLO_ENGINE_SECS)})
            name, version = self._runtime.name, "unavailable"
        return {
            "agent_id": self._identity.agent_id,
            "server_id": self._identity.server_id,
            "version": __version__,
            # The contract knows two runtimes; Podman is one of Docker's kind.
            "runtime": "docker" if name == "podman" else name,
            "runtime_version": version,
            "runtime_product": name,
            "runtime_reason": self._identity.runtime_reason,
            **host.to_payload(),
            "capabilities": [*CAPABILITIES, *sorted(self._extensions)],
            "protocol_version": PROTOCOL_VERSION,
            "min_supported": PROTOCOL_VERSION,
            **({"update": dict(about)} if (about := self._about_update()) else {}),
        }

    async def _heartbeat(self) -> Mapping[str, Any]:
        figures = self._meter.measure(await self._sampler.host())
        services: list[dict[str, Json]] = []
        running = total = 0
        limit_secs = min(ENGINE_SECS, self._transport.heartbeat_interval / 2)
        try:
            async with asyncio.timeout(limit_secs):
                self._last_views = await self._views.all()
                await self._sampler.sample()
        except (RuntimeFailure, TimeoutError) as away:
            if isinstance(away, RuntimeFailure):
                # It is down, and most likely its containers with it. An engine that is only slow changes nothing.
                self._last_views = []
            log.warning("engine does not answer", extra={"reason": _reason(away, limit_secs)})
        for view in self._last_views:
            services += [
                container_status(view, replica, self._sampler.last.figures(replica.container_id))
                for replica in view.replicas
            ]
            running += sum(1 for replica in view.replicas if replica.is_running)
            total += len(view.replicas)
        return {
            "agent_id": self._identity.agent_id,
            "timestamp": format_secs(time.time()),
            "uptime_seconds": int(time.time() - self._identity.started_at),
            "resources": figures.to_payload(),
            "containers": {"running": running, "stopped": total - running, "total": total},
            "services": services,
        }

    async def _deliver(self, message: Envelope) -> None:
        if message.type == CERT_RESPONSE and CERT_ENROLMENT in self.features:
            self._certificate.answered(message.payload)
            return
        # Deployments queued while the agent was offline are older: they must not replace newer ones.
        await self._pending.join()
        await self._enter(message)

    async def _enter(self, frame: Envelope) -> None:
        assert self._router is not None, "cannot happen because the router is set before the connection runs"
        for message in await self._door.incoming(frame):
            await self._router.handle(message.type, message.id, message.payload, self)

    async def _deliver_pending(self) -> None:
        while True:
            payload = await self._pending.get()
            # A queued deployment has no request id. Derive one from its deployment id, so that it runs once.
            known_as = f"pending-{payload.get('deployment_id')}"
            try:
                await self._enter(Envelope(id=known_as, type="deploy", timestamp="", payload=payload))
            except AgentError as failed:
                log.error("cannot deliver a queued deployment", extra={"reason": str(failed)})
            finally:
                self._pending.task_done()

    def _ready(self, ack: HelloAck) -> None:
        log.info("control plane accepted the agent", extra={"server_name": ack.server_name, "org_id": ack.org_id})
        self._note("connection", "connected to the control plane")
        for problem in ack.problems:
            log.warning("part of hello_ack is invalid", extra={"reason": problem})
        self._agreed = ack.features & self._extensions
        self._certificate.ready(agreed=CERT_ENROLMENT in self.features)
        if ack.telemetry_batch_interval_secs is not None:
            self._batch_secs = ack.telemetry_batch_interval_secs
        self._on_change()
        if ack.log_level is not None:
            self._log_handle.set_level(ack.log_level)
        for payload in ack.pending_deployments:
            if is_stub(payload):
                deployment_id = str(payload.get("deployment_id"))[:100]
                log.warning("pending deployment names no image; skipped", extra={"deployment_id": deployment_id})
                continue
            try:
                self._pending.put_nowait(payload)
            except asyncio.QueueFull:
                log.error("too many pending deployments; the rest are sent again on the next connection")
                break

    def _lost(self, reason: str) -> None:
        log.info("control plane disconnected", extra={"reason": reason})
        self._note("connection", f"disconnected from the control plane: {reason}")
        self._agreed = frozenset()
        self._certificate.lost()
        self._on_change()
        if self._router is not None:
            self._router.forget(self)


def _reason(away: Exception, limit_secs: float) -> str:
    return str(away) or f"no answer within {limit_secs:g} s"
