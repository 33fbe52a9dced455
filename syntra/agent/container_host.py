"""The parts that only a container engine needs: health checks, traffic, service discovery, proxy, reconciler.

A cluster does this work itself, so an agent on a cluster has none of these parts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from syntra.agent.changes import Changes
from syntra.agent.config.settings import Settings, TelemetrySettings
from syntra.agent.discovery.name_service import NameService, build_name_service
from syntra.agent.health.gate import HealthGate
from syntra.agent.health.watch import HealthWatch
from syntra.agent.journal.journal import Journal
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.agent.proxy.certificates import CertificateStore, ProxyCertificates
from syntra.agent.proxy.routes import ProxyRoutes, PublishedRoutes, proxy_settings, route_labels, why_no_proxy
from syntra.agent.proxy.setup import certificates_dir
from syntra.agent.proxy.verbs import ProxyVerbs
from syntra.agent.reconciler.garbage_collection import GarbageCollector
from syntra.agent.reconciler.image_records import ImageRecords
from syntra.agent.reconciler.reconciler import Reconciler
from syntra.agent.telemetry.process import TelemetryProcess
from syntra.agent.telemetry.sources import source_tasks
from syntra.agent.traffic.port import NoTraffic
from syntra.agent.traffic.route_ownership import RouteOwnership
from syntra.agent.traffic.switch import TrafficSettings, TrafficSwitch
from syntra.health.restore_failures import RestoreFailure
from syntra.model.network import ContainerDns
from syntra.networking.connections import open_connections
from syntra.networking.file_writer import FileWriter
from syntra.networking.port_check import port_holder
from syntra.networking.proxy import ProxyObserver
from syntra.networking.traefik import ServedCertificate
from syntra.runtime.containers.runtime import ContainerRuntime
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.engine import DockerEngine, DrainLog
from syntra.runtime.docker.proxy_containers import ProxyContainers
from syntra.runtime.docker.telemetry_env import OtlpPorts
from syntra.utils.frozen import frozen

Task = tuple[str, Coroutine[Any, Any, None]]


@frozen
class ContainerHost:
    """The parts. `readiness` knows the health of running replicas, `gate` the health of starting ones."""

    engine: DockerEngine
    runtime: ContainerRuntime
    readiness: HealthWatch
    gate: HealthGate
    traffic: TrafficSwitch | None
    names: NameService | None
    proxy: ProxyVerbs
    certificates: ProxyCertificates | None
    reconciler: Reconciler
    garbage_collector: GarbageCollector
    image_records: ImageRecords
    journal: Journal
    changes: Changes
    telemetry: TelemetrySettings

    @property
    def prober(self) -> HealthGate:
        """Checks the health of a replica now."""
        return self.gate

    @property
    def restore_failures(self) -> Sequence[RestoreFailure]:
        """The replicas that cannot be restored."""
        return self.reconciler.failures

    def telemetry_tasks(self, telemetry: TelemetryProcess, *, started_at: float) -> list[Task]:
        """The tasks that tell the telemetry process about senders, endpoints and logs."""
        return source_tasks(self.engine, self.journal, self.changes, telemetry, self.telemetry, started_at=started_at)

    @property
    def standby(self) -> str:
        """Empty: the lock of the data directory keeps a second agent from starting."""
        return ""

    async def turn(self) -> None:
        """Return at once."""

    def standby_tasks(self) -> list[Task]:
        """No tasks."""
        return []

    def before_operations(self) -> list[Task]:
        """The tasks that run from the start, by name."""
        return [("garbage collection", self.garbage_collector.run()), ("health", self.readiness.run())]

    def after_operations(self) -> list[Task]:
        """The tasks that start after unfinished operations resume, by name.

        Before that, a service with a running operation looks idle, and its canary would lose its share of traffic.
        """
        routes = [("routes", self.traffic.run()), ("proxy", self.proxy.watch.run())] if self.traffic is not None else []
        return [*routes, ("reconciler", self.reconciler.run()), ("image records", self.image_records.run())]

    @property
    def warnings(self) -> list[str]:
        """Warnings for `status`, one sentence each."""
        strays = self.garbage_collector.stray
        return [
            *(self.traffic.problems if self.traffic is not None else ()),
            *(f"container {name} has this agent's labels but belongs to no current deployment" for name in strays),
            *map(str, self.engine.strays),
            *self.proxy.watch.warnings,
            *(str(failure) for failure in self.reconciler.failures),
        ]

    async def close(self) -> None:
        """Close the name server's sockets. The caller cancels the tasks."""
        if self.names is not None:
            self.names.close()


def build(
    settings: Settings,
    *,
    client: EngineClient,
    owner: str,
    journal: Journal,
    changes: Changes,
    queues: ServiceQueues,
    group: asyncio.TaskGroup,
    drain_log: DrainLog | None = None,
) -> ContainerHost:
    """Build the parts for these settings. `drain_log` waits until the log of a stopped container is read."""
    networking = settings.networking
    names: NameService | None = None

    def container_dns(project: str, gateway: str) -> ContainerDns | None:
        return names.container_dns(project, gateway) if names is not None else None

    engine = DockerEngine(
        client,
        owner=owner,
        otlp_ports=_otlp_ports(settings.telemetry),
        route_labels=route_labels(settings),
        container_dns=container_dns,
        with_aliases=networking.dns.mode != "off",
        count_connections=open_connections,
        find_process=port_holder,
        drain_log=drain_log,
    )
    if networking.dns.mode == "agent":
        names = build_name_service(networking.dns, engine, group)
    least = settings.runtime.min_healthy_secs
    readiness = HealthWatch(journal, engine, changes, min_healthy_secs=least)
    gate = HealthGate(engine, min_healthy_secs=least, clock=time.monotonic, on_passed=readiness.passed)
    store = CertificateStore(certificates_dir(settings))
    store.load(time.time())
    traffic = _traffic(
        settings,
        engine=engine,
        journal=journal,
        changes=changes,
        queues=queues,
        readiness=readiness,
        names=names,
        certificates=store.served,
    )
    proxy = ProxyVerbs.of(settings, ProxyContainers(client, owner=owner), traffic)
    routes = PublishedRoutes.of(traffic)
    certificates: ProxyCertificates | None = None
    if traffic is not None and routes is not None:
        certificates = ProxyCertificates(
            store, proxy_settings(settings), traffic, routes, warnings=lambda: proxy.watch.warnings
        )
    reconciler = Reconciler(
        engine,
        journal,
        traffic or NoTraffic(),
        queues,
        changes,
        readiness=readiness,
        drain_secs=networking.drain_seconds,
        clock=time.monotonic,
    )
    return ContainerHost(
        engine=engine,
        runtime=ContainerRuntime(
            engine,
            traffic or NoTraffic(),
            gate,
            labels=RouteOwnership(journal, queues.is_busy) if networking.proxy == "traefik-labels" else None,
            why_no_proxy=lambda: why_no_proxy(settings, traffic),
        ),
        readiness=readiness,
        gate=gate,
        traffic=traffic,
        names=names,
        proxy=proxy,
        certificates=certificates,
        reconciler=reconciler,
        garbage_collector=GarbageCollector(journal, engine, queues),
        image_records=ImageRecords(journal, engine, queues),
        journal=journal,
        changes=changes,
        telemetry=settings.telemetry,
    )


def _otlp_ports(telemetry: TelemetrySettings) -> OtlpPorts | None:
    if telemetry.receivers == "off":
        return None
    return OtlpPorts(grpc=telemetry.otlp_grpc_port, http=telemetry.otlp_http_port)


def _traffic(
    settings: Settings,
    *,
    engine: DockerEngine,
    journal: Journal,
    changes: Changes,
    queues: ServiceQueues,
    readiness: HealthWatch,
    names: NameService | None,
    certificates: Callable[[], Sequence[ServedCertificate]],
) -> TrafficSwitch | None:
    """The traffic switch for these settings; None when the agent neither writes routes nor answers for names."""
    networking = settings.networking
    proxy: ProxyRoutes | None = None
    if networking.proxy == "traefik-file":
        named = proxy_settings(settings)
        proxy = ProxyRoutes(
            named,
            writer=FileWriter(networking.dynamic_dir(settings.data_dir)),
            observer=ProxyObserver(networking.traefik_api, named, certificates),
            certificates=certificates,
            note=lambda text, is_bad: journal.events.note("proxy", text, is_bad=is_bad),
        )
    if proxy is None and names is None:
        return None
    return TrafficSwitch(
        TrafficSettings(drain_secs=networking.drain_seconds, state_dir=settings.data_dir),
        engine=engine,
        journal=journal,
        changes=changes,
        is_busy=queues.is_busy,
        readiness=readiness,
        proxy=proxy,
        names=names,
        is_held=queues.is_held,
    )
