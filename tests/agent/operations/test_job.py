"""A job and its interruption: where it ends, why, and what may not be interrupted any more."""

from __future__ import annotations

import asyncio

import pytest

from syntra.agent.operations.job import Interrupted, Interruption, Job, OperationPhase
from syntra.model.command import Deploy, Operation, Pace, Restart, Rollback, Scale, Stop
from syntra.model.ids import RequestId, ServiceId
from tests.model.samples import deployment

REQUEST, SERVICE = RequestId("req_1"), ServiceId("svc_123")
DEPLOY = Deploy(request_id=REQUEST, deployment=deployment(), auth=None)
STOP = Stop(request_id=REQUEST, service_id=SERVICE, grace_secs=10, remove=False)
SCALE = Scale(request_id=REQUEST, service_id=SERVICE, replicas=2, pace=Pace.ROLLING)
RESTART = Restart(request_id=REQUEST, service_id=SERVICE, grace_secs=10)
ROLLBACK = Rollback(request_id=REQUEST, service_id=SERVICE, target=None)


def job(command: Operation = DEPLOY, *, phase: OperationPhase = OperationPhase.RUNNING) -> Job:
    known = command.deployment if isinstance(command, Deploy) else None
    return Job(command=command, kind="deploy", origin="local", deployment=known, replicas=1, phase=phase)


def far() -> float:
    """A deadline that no test reaches."""
    return asyncio.get_running_loop().time() + 3600


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("command", "reports", "replaces"),
    [(DEPLOY, True, True), (ROLLBACK, True, True), (SCALE, True, False), (STOP, False, True), (RESTART, False, False)],
)
def test_long_work_reports_and_what_decides_the_service_replaces_the_rest(
    command: Operation, reports: bool, replaces: bool
) -> None:
    assert (job(command).reports_deployment, job(command).replaces_others) == (reports, replaces)


def test_a_job_is_about_a_service_and_perhaps_a_deployment() -> None:
    assert (job().service_id, job().deployment_id) == ("svc_123", "dep_abc12345")
    assert (job(STOP).service_id, job(STOP).deployment_id) == ("svc_123", "")


async def test_a_job_that_is_not_interrupted_goes_on() -> None:
    running = job()
    running.safe_point()
    async with running.interruptible(far()):
        await asyncio.sleep(0)
    running.safe_point()


@pytest.mark.parametrize("cause", Interruption)
async def test_an_interrupted_job_ends_at_its_next_safe_point(cause: Interruption) -> None:
    running = job()
    running.interrupt(cause)
    with pytest.raises(Interrupted) as ended:
        running.safe_point()
    assert ended.value.cause is cause
    with pytest.raises(Interrupted):
        async with running.interruptible(far()):
            pytest.fail("a wait does not begin after the interruption")


@pytest.mark.parametrize("cause", Interruption)
async def test_a_wait_that_may_be_left_ends_at_once(cause: Interruption) -> None:
    running = job()
    async with asyncio.TaskGroup() as group:

        async def wait() -> Interruption:
            with pytest.raises(Interrupted) as ended:
                async with running.interruptible(far()):
                    await forever()
            return ended.value.cause

        waiting = group.create_task(wait(), name="wait")
        await asyncio.sleep(0)
        running.interrupt(cause)
    assert waiting.result() is cause


async def test_a_wait_ends_at_its_deadline() -> None:
    running = job()
    with pytest.raises(Interrupted) as ended:
        async with running.interruptible(asyncio.get_running_loop().time()):
            await forever()
    assert ended.value.cause is Interruption.DEADLINE
    assert running.interruption is None, "what comes next may still wait"


async def test_work_that_was_done_when_the_interruption_came_is_not_lost() -> None:
    running = job()
    async with running.interruptible(far()):
        running.interrupt(Interruption.SUPERSEDED)
        result = 7
    assert result == 7
    with pytest.raises(Interrupted):
        running.safe_point()


async def test_the_error_of_the_work_comes_out_as_it_is() -> None:
    running = job()
    with pytest.raises(TimeoutError, match="of the work"):
        async with running.interruptible(far()):
            raise TimeoutError("of the work")
    running.interrupt(Interruption.SHUTDOWN)


async def test_an_inner_and_an_outer_wait_end_together() -> None:
    running = job()
    async with asyncio.TaskGroup() as group:

        async def wait() -> None:
            with pytest.raises(Interrupted):
                async with running.interruptible(far()), running.interruptible(far()):
                    await forever()

        group.create_task(wait(), name="wait")
        await asyncio.sleep(0)
        running.interrupt(Interruption.SUPERSEDED)
    running.interruption = None
    async with running.interruptible(far()):
        await asyncio.sleep(0)


async def test_several_waits_of_one_job_end_together() -> None:
    running = job()
    ended: list[Interruption] = []

    async def wait() -> None:
        try:
            async with running.interruptible(far()):
                await forever()
        except Interrupted as interrupted:
            ended.append(interrupted.cause)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(wait(), name=f"wait {number}")
        await asyncio.sleep(0)
        running.interrupt(Interruption.SUPERSEDED)
    assert ended == [Interruption.SUPERSEDED] * 3


async def test_being_cancelled_is_not_being_interrupted() -> None:
    running = job()

    async def wait() -> None:
        async with running.interruptible(far()):
            await forever()

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait(), name="wait")
        await asyncio.sleep(0)
        waiting.cancel()
    assert waiting.cancelled()
    assert running.interruption is None
    running.interrupt(Interruption.SHUTDOWN)


@pytest.mark.parametrize("phase", [OperationPhase.COMMITTED, OperationPhase.ROLLING_BACK])
async def test_what_is_decided_or_being_undone_ends_only_for_a_shutdown(phase: OperationPhase) -> None:
    settled = job(phase=phase)
    settled.interrupt(Interruption.SUPERSEDED)
    settled.interrupt(Interruption.DEADLINE)
    settled.safe_point()
    settled.interrupt(Interruption.SHUTDOWN)
    with pytest.raises(Interrupted) as ended:
        settled.safe_point()
    assert ended.value.cause is Interruption.SHUTDOWN


@pytest.mark.parametrize(
    ("causes", "counts"),
    [
        ((Interruption.SUPERSEDED, Interruption.DEADLINE), Interruption.SUPERSEDED),
        ((Interruption.SUPERSEDED, Interruption.SHUTDOWN), Interruption.SHUTDOWN),
        ((Interruption.SHUTDOWN, Interruption.SUPERSEDED), Interruption.SHUTDOWN),
    ],
)
def test_the_first_cause_stays_unless_the_agent_shuts_down(
    causes: tuple[Interruption, ...], counts: Interruption
) -> None:
    running = job()
    for cause in causes:
        running.interrupt(cause)
    assert running.interruption is counts
