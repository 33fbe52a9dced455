"""Waits until new replicas are healthy, or reports why they are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from syntra.health.checks import Check, CheckTiming, ExecCheck, HttpCheck, TcpCheck
from syntra.health.probes import ExecOutcome, Prober, probe
from syntra.health.result import ProbeResult, bounded
from syntra.health.verdict import Observation, StartupGate, VerdictState
from syntra.model.container import Container
from syntra.model.ids import ContainerId
from syntra.model.spec import HealthKind, HealthSpec, ServiceSpec
from syntra.model.status import Health, Replica
from syntra.runtime.containers.engine import Containers
from syntra.runtime.errors import StepFailed
from syntra.runtime.runtime import Exec

# The shortest pause between two inspections of a container; one costs the engine about a millisecond.
LEAST_PAUSE_SECS = 0.01
MOST_PAUSE_SECS = 1.0
MOST_AWAITED = 1000
# Up to two seconds for the exit code of a container in a crash loop.
LAST_EXIT_PAUSE_SECS = 0.05
LAST_EXIT_LOOKS = 40


class ExecInContainer:
    """The exec capability of `health.probes` in one container."""

    def __init__(self, engine: Exec, container_id: ContainerId) -> None:
        self._engine = engine
        self._container_id = container_id

    async def run(self, argv: Sequence[str], *, timeout_secs: float, output_limit: int) -> ExecOutcome:
        """Returns exit code and output: standard output, or standard error when that is empty."""
        result = await self._engine.execute(
            self._container_id, argv, env={}, working_dir=None, deadline_secs=timeout_secs
        )
        return ExecOutcome(exit_code=result.exit_code, output=(result.stdout or result.stderr)[:output_limit])


class GateSource(Containers, Exec, Protocol):
    """The engine's capabilities that the gate needs."""


class HealthGate:
    """Judges starting replicas by their health check, else by the image's own, else by staying up.

    Each has to hold for `min_healthy_secs`.
    """

    def __init__(
        self,
        engine: GateSource,
        *,
        min_healthy_secs: float,
        clock: Callable[[], float],
        on_passed: Callable[[Container, ProbeResult], None] = lambda _container, _answer: None,
        prober: Prober = probe,
    ) -> None:
        """`on_passed`: the container just became healthy by this answer to its check.

        `prober` probes an address, possibly from another network namespace.
        """
        self._engine = engine
        self._min_healthy_secs = min_healthy_secs
        self._clock = clock
        self._on_passed = on_passed
        self._prober = prober
        # The last failed probe of each container that was awaited last.
        self._failed_probes: dict[ContainerId, str] = {}
        # Whether each container became healthy since it was awaited last.
        self._awaited: dict[ContainerId, bool] = {}

    async def wait(self, containers: Sequence[ContainerId], spec: ServiceSpec | None) -> None:
        """Return when all are healthy. Raises StepFailed for the first that fails. Safe to cancel."""
        for container_id in containers:
            self._failed_probes.pop(container_id, None)
            self._await(container_id)
        try:
            async with asyncio.TaskGroup() as group:
                for container_id in containers:
                    group.create_task(self._wait_for(container_id, spec), name=f"health of {container_id[:12]}")
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def passed(self, container_id: ContainerId) -> bool | None:
        """Whether it became healthy since it was awaited last; None when it never was."""
        return self._awaited.get(container_id)

    def _await(self, container_id: ContainerId) -> None:
        self._awaited[container_id] = False
        if len(self._awaited) > MOST_AWAITED:
            del self._awaited[next(iter(self._awaited))]

    def last_probe(self, containers: Sequence[ContainerId]) -> str:
        """The last failed probe of one of the containers in the last wait; empty when none failed."""
        return next((self._failed_probes[c] for c in containers if c in self._failed_probes), "")

    async def health_now(self, replica: Replica, spec: ServiceSpec, at_most_secs: float) -> Health:
        """One probe of a running replica, or what the image's own check says; unknown without a health check."""
        if not isinstance(replica, Container):
            return Health.UNKNOWN
        if spec.health is None:
            return replica.image_health or Health.UNKNOWN
        try:
            async with asyncio.timeout(at_most_secs + LEAST_PAUSE_SECS):
                result = await self._probe(replica, spec, spec.health, at_most_secs)
        except TimeoutError:
            return Health.UNHEALTHY
        return Health.HEALTHY if result.ok else Health.UNHEALTHY

    async def _wait_for(self, container_id: ContainerId, spec: ServiceSpec | None) -> None:
        health = spec.health if spec else None
        gate = StartupGate(timing_of(health) if health else None, min_healthy_secs=self._min_healthy_secs)
        probe_due = True
        while True:
            replica = await self._engine.inspect(container_id)
            if replica is None:
                raise StepFailed("CONTAINER_NOT_FOUND", f"container {container_id[:12]} was removed outside the agent")
            result = None
            if probe_due and spec is not None and health is not None and replica.is_running:
                result = await self._probe(replica, spec, health, health.timeout)
                if result.ok:
                    # Inspect after the probe: the container that answered must still be up.
                    if (after := await self._engine.inspect(container_id)) is None:
                        continue
                    replica = after
                self._note(container_id, result)
            now = self._clock()
            verdict = gate.observe(_observation(now, replica, result))
            image_health = replica.image_health if health is None and replica.is_running else None
            if image_health is Health.UNHEALTHY:
                sentence = f"{replica.name}: {image_health_detail(replica)}; see its log, or the image's HEALTHCHECK"
                raise StepFailed("HEALTH_CHECK_FAILED", sentence, container_id=container_id)
            if verdict.state is VerdictState.HEALTHY and image_health is not Health.UNKNOWN:
                self._awaited[container_id] = True
                if result is not None:
                    self._on_passed(replica, result)
                return
            if verdict.state is VerdictState.FAILED:
                reason = " ".join(verdict.reason.split())
                if not gate.in_crash_loop and replica.is_running:
                    step = "see its log, and whether health_check fits (path, port, retries)"
                    sentence = f"{replica.name}: {reason}; {step}"
                    raise StepFailed("HEALTH_CHECK_FAILED", sentence, container_id=container_id)
                if gate.in_crash_loop and " exited with code " not in reason:
                    reason += await self._last_exit(container_id)
                raise StepFailed(
                    "CONTAINER_CRASHED", f"{replica.name}: {reason}; see its log", container_id=container_id
                )
            pause = (verdict.next_probe_at or now) - now
            probe_due = pause <= MOST_PAUSE_SECS
            await asyncio.sleep(min(max(pause, LEAST_PAUSE_SECS), MOST_PAUSE_SECS))

    async def _last_exit(self, container_id: ContainerId) -> str:
        """How a container in a crash loop exits, as the end of a sentence; empty when it does not exit soon.

        The engine shows the exit code only between two runs, which are often too short to have been seen.
        """
        for _ in range(LAST_EXIT_LOOKS):
            replica = await self._engine.inspect(container_id)
            if replica is None:
                break
            if replica.exit_code is not None:
                return f", last time it exited with code {replica.exit_code}"
            await asyncio.sleep(LAST_EXIT_PAUSE_SECS)
        return ""

    def _note(self, container_id: ContainerId, result: ProbeResult) -> None:
        self._failed_probes.pop(container_id, None)
        if not result.ok:
            self._failed_probes[container_id] = " ".join(result.detail.split())
            if len(self._failed_probes) > MOST_AWAITED:
                del self._failed_probes[next(iter(self._failed_probes))]

    async def _probe(
        self, replica: Container, spec: ServiceSpec, health: HealthSpec, at_most_secs: float
    ) -> ProbeResult:
        check = check_of(spec, health)
        address = replica.address
        if address is None and not isinstance(check, ExecCheck):
            return ProbeResult(ok=False, detail="the container has no address yet", status_code=None, duration_secs=0.0)
        executor = ExecInContainer(self._engine, replica.container_id)
        return await self._prober(address or "", check, min(health.timeout, at_most_secs), executor)


def image_health_detail(replica: Container) -> str:
    """What the image's own check found, as a sentence; its output is cut, and without control characters."""
    output = " ".join(bounded(replica.image_health_output).split())
    if replica.image_health is Health.UNHEALTHY:
        return f"the image's health check failed: {output or 'it wrote nothing'}"
    return f"the image's health check {'passes' if replica.image_health is Health.HEALTHY else 'is starting'}"


def check_of(spec: ServiceSpec, health: HealthSpec) -> Check:
    """The health check of a replica."""
    if health.kind is HealthKind.EXEC:
        return ExecCheck(argv=health.command)
    port = health.port or spec.port
    assert port is not None, "cannot happen because the payload parser asks for a port"
    if health.kind is HealthKind.HTTP:
        return HttpCheck(path=health.path, port=port)
    return TcpCheck(port=port)


def timing_of(health: HealthSpec) -> CheckTiming:
    """Interval, timeout, retries and start period of a check."""
    return CheckTiming(
        interval_secs=health.interval,
        timeout_secs=health.timeout,
        retries=health.retries,
        start_period_secs=health.start_period,
    )


def _observation(now: float, replica: Container, result: ProbeResult | None) -> Observation:
    return Observation(
        at=now,
        running=replica.is_running,
        restart_count=replica.restart_count,
        started_at_ns=replica.started_ns,
        exit_code=replica.exit_code,
        oom_killed=replica.oom_killed,
        status=replica.state.value,
        error=replica.error,
        probe=result,
    )
