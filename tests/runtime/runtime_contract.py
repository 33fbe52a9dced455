"""What every runtime does, as tests: run against a container engine, the fake that stands for one, and a tiny cluster.

A subclass gives `open_rig`: a runtime with one service of its own, and images that it can run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from syntra.model.command import Deploy, Operation, Pace, Scale, Stop
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.image import ResolvedImage
from syntra.model.spec import Deployment, ServiceSpec
from syntra.model.status import DeployState, Phase
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.runtime.runtime import Commit, Desired, ForgetService, LogRange, Rollout, Runtime, Step
from tests.on_loop import OnLoop

WAIT_SECS = 30.0
REQUEST = RequestId("r1")


@dataclass(kw_only=True)
class Context:
    """`OperationContext` as a test tells it. `previous` is what the service was before."""

    desired: Desired
    service_id: ServiceId
    previous: Deployment | None = None
    remarks: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def interruptible(self, deadline: float) -> AsyncIterator[None]:
        async with asyncio.timeout_at(deadline):
            yield

    def report_pull(self, percent: int, text: str) -> None:
        assert 0 <= percent <= 100

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)

    async def resolved(self, image: ResolvedImage) -> None:
        return

    async def replaced(self, old: ContainerId, new: ContainerId) -> None:
        return

    async def kept(self, deployment_id: DeploymentId) -> Deployment | None:
        found = (self.previous, self.desired.deployment)
        return next((d for d in found if d is not None and d.deployment_id == deployment_id), None)

    async def current(self) -> Deployment | None:
        return self.previous

    async def effective_spec(self, spec: ServiceSpec) -> ServiceSpec:
        return spec


@dataclass(frozen=True, kw_only=True)
class RuntimeRig:
    """A runtime, one that speaks to nobody, and deployments: `of(id)` works, `of(id, fails=True)` never gets ready."""

    runtime: Runtime
    away: Runtime
    service_id: ServiceId
    of: Callable[..., Deployment]
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the runtime's watch at each change."""
    wait_secs: float = WAIT_SECS
    """The deadline of each step."""
    counts_pids: bool = True
    """Whether the figures have the number of processes."""

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[RuntimeRig]:
        """With the runtime's watch running, as in an agent."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self.runtime.watch(self.told.set), name="watch")
            yield self
            watching.cancel()

    def context(
        self, command: Operation, deployment: Deployment | None, replicas: int, *, previous: Deployment | None = None
    ) -> Context:
        desired = Desired(command=command, deployment=deployment, replicas=replicas)
        return Context(desired=desired, service_id=self.service_id, previous=previous)

    def deploying(self, deployment: Deployment, replicas: int, *, previous: Deployment | None = None) -> Context:
        command = Deploy(request_id=REQUEST, deployment=deployment, auth=None)
        return self.context(command, deployment, replicas, previous=previous)

    async def begun(self, context: Context) -> Rollout:
        rollout = self.runtime.rollout(context)
        prior = rollout.prior(await rollout.observe())
        context.desired = _with(context.desired, prior=prior)
        return rollout

    async def carried_out(self, context: Context) -> list[Step]:
        """As the executor does, without a journal; returns the steps."""
        return await self.performed(context, await self.begun(context))

    async def performed(self, context: Context, rollout: Rollout, *, at_most: int = 1000) -> list[Step]:
        steps = [*rollout.plan(await rollout.observe()).steps]
        done: list[Step] = []
        while steps and len(done) < at_most:
            step = steps.pop(0)
            if isinstance(step, Commit):
                context.desired = _with(context.desired, is_committed=True)
            else:
                await rollout.perform(step, asyncio.get_running_loop().time() + self.wait_secs)
            done.append(step)
            if step.phase is Phase.PULL_IMAGE:
                steps = [*rollout.plan(await rollout.observe()).steps]
        return done

    async def running(self) -> list[tuple[str, int]]:
        replicas = await self.runtime.observe(self.service_id)
        return sorted((r.deployment_id, r.index) for r in replicas if r.is_running)


def _with(desired: Desired, **changes: object) -> Desired:
    known = {name: getattr(desired, name) for name in Desired.__dataclass_fields__}
    return Desired(**{**known, **changes})


class RuntimeContract:
    """The contract. Every test has a service id of its own."""

    def open_rig(self) -> AbstractAsyncContextManager[RuntimeRig]:
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[RuntimeRig]:
        async with self.open_rig() as rig, rig.watched():
            yield rig

    @pytest.fixture
    def rig(self) -> OnLoop[RuntimeRig]:
        return OnLoop(self.opened())

    async def test_it_tells_its_name_and_versions(self, rig: RuntimeRig) -> None:
        await rig.runtime.ping()
        info = await rig.runtime.info()
        assert info.name == rig.runtime.name
        assert info.version

    async def test_a_deploy_is_a_plan_whose_steps_say_what_they_are(self, rig: RuntimeRig) -> None:
        steps = await rig.carried_out(rig.deploying(rig.of("d1"), 2))
        assert sum(isinstance(step, Commit) for step in steps) == 1
        for step in steps:
            assert isinstance(step.phase, Phase)
            assert isinstance(step.state, DeployState) and not step.state.is_terminal
            assert str(step) and "<" not in str(step)
        assert await rig.running() == [("d1", 1), ("d1", 2)]

    async def test_planning_again_after_any_prefix_gives_the_rest(self) -> None:
        for cut in range(1, 100):
            async with self.opened() as rig:
                old = rig.of("d1")
                await rig.carried_out(rig.deploying(old, 1))
                context = rig.deploying(rig.of("d2"), 1, previous=old)
                rollout = await rig.begun(context)
                done = await rig.performed(context, rollout, at_most=cut)
                whole = len(done) < cut
                # As after a kill: nobody remembers what was done.
                await rig.performed(context, rig.runtime.rollout(context))
                assert context.desired.is_committed
                assert await rig.running() == [("d2", 1)]
                if whole:
                    return
        raise AssertionError("a plan of a hundred steps")

    async def test_a_deploy_that_fails_returns_to_what_was_running(self, rig: RuntimeRig) -> None:
        old, new = rig.of("d1"), rig.of("d2", fails=True)
        await rig.carried_out(rig.deploying(old, 1))
        context = rig.deploying(new, 1, previous=old)
        rollout = await rig.begun(context)
        with pytest.raises(StepFailed) as failed:
            await rig.performed(context, rollout)
        assert failed.value.code
        context.desired = _with(context.desired, is_rolling_back=True)
        await rig.performed(context, rollout)
        assert await rig.running() == [("d1", 1)]

    async def test_scaling_stopping_and_removing(self, rig: RuntimeRig) -> None:
        only = rig.of("d1")
        await rig.carried_out(rig.deploying(only, 1))
        for replicas in (3, 1):
            scale = Scale(request_id=REQUEST, service_id=rig.service_id, replicas=replicas, pace=Pace.IMMEDIATE)
            await rig.carried_out(rig.context(scale, only, replicas, previous=only))
            assert len(await rig.running()) == replicas
        stop = Stop(request_id=REQUEST, service_id=rig.service_id, grace_secs=1.0, remove=True)
        steps = await rig.carried_out(rig.context(stop, only, 1, previous=only))
        assert isinstance(steps[0], Commit), "stopping is decided first"
        assert isinstance(steps[-1], ForgetService)
        assert list(await rig.runtime.observe(rig.service_id)) == []

    async def test_it_answers_for_logs_exec_and_figures_of_a_replica(self, rig: RuntimeRig) -> None:
        await rig.carried_out(rig.deploying(rig.of("d1"), 1))
        [replica] = await rig.runtime.observe(rig.service_id)
        assert await rig.runtime.inspect(replica.container_id) is not None
        async with asyncio.timeout(WAIT_SECS):
            while not any("serving" in line.message for line in await rig.runtime.tail(replica.container_id, 50)):
                await asyncio.sleep(0.05)
        async with rig.runtime.logs(replica.container_id, LogRange(tail=10, follow=False)) as lines:
            assert [line.message async for line in lines]
        ended = await rig.runtime.execute(
            replica.container_id, ["echo", "hello"], env={}, working_dir=None, deadline_secs=10.0
        )
        assert (ended.exit_code, ended.stdout) == (0, b"hello\n")
        reading = (await rig.runtime.readings([replica]))[replica.container_id]
        assert reading.memory_bytes > 0
        assert (reading.pids >= 1) is rig.counts_pids

    async def test_a_lost_journal_can_be_rebuilt_from_it(self, rig: RuntimeRig) -> None:
        only = rig.of("d1")
        await rig.carried_out(rig.deploying(only, 1))
        surveyed = [s for s in await rig.runtime.survey() if s.replica.service_id == rig.service_id]
        # A runtime may also know which image the deployment resolved to.
        assert [s.deployment and replace(s.deployment, resolved=None) for s in surveyed] == [only]

    async def test_changes_are_told_and_exits_are_never_complete_at_first(self, rig: RuntimeRig) -> None:
        assert not rig.runtime.drain_exits().complete
        await asyncio.sleep(0.5)
        rig.told.clear()
        await rig.carried_out(rig.deploying(rig.of("d1"), 1))
        async with asyncio.timeout(WAIT_SECS):
            await rig.told.wait()

    async def test_away_is_told_apart_from_a_refusal(self, rig: RuntimeRig) -> None:
        context = rig.deploying(rig.of("d1"), 1)
        for attempt in (rig.away.ping(), rig.away.observe(), rig.away.rollout(context).observe()):
            with pytest.raises(RuntimeUnavailable):
                await attempt
