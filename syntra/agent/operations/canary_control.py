"""Commands that decide how a canary under way ends: kept first, then answered, then carried out."""

from __future__ import annotations

from syntra.agent.journal.canary import Answered
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import CONTROL_PLANE, Reports, envelope, success
from syntra.agent.operations.execution import abort_reason
from syntra.agent.operations.job import Interruption, Job
from syntra.model.command import CanaryCommand, Promote
from syntra.model.errors import RequestError


async def decide_canary(
    command: CanaryCommand, kind: str, origin: str, *, job: Job | None, journal: Journal, reports: Reports
) -> None:
    """Promote or abort the canary that `job` is; raises RequestError (NO_CANARY) when it is none, or no more.

    The answer is told and sent by the time this returns. Cancelled before that, the journal has the decision or not;
    the next start of the agent goes by what it has.
    """
    if job is None or job.deployment is None or not job.can_be_decided:
        raise _no_canary(command, kind)
    response = success(
        command.request_id,
        {"accepted": True, "service_id": job.service_id, "deployment_id": job.deployment_id},
    )
    answered = Answered(
        request_id=command.request_id,
        kind=kind,
        service_id=command.service_id,
        origin=origin,
        response=response,
        messages=[envelope("command_response", response)] if origin == CONTROL_PLANE else [],
    )
    operation, stage = job.command.request_id, len(job.deployment.canary.steps)
    if isinstance(command, Promote):
        if not await journal.canary.promote(operation, stage, answered):
            raise _no_canary(command, kind)
        job.promote(stage)
    else:
        failure = abort_reason(job)
        reason = {"code": failure.code, "message": failure.message}
        if not await journal.canary.abort(operation, reason, answered):
            raise _no_canary(command, kind)
        job.interrupt(Interruption.ABORTED)
    reports.tell(command.request_id, "command_response", response)


def _no_canary(command: CanaryCommand, kind: str) -> RequestError:
    return RequestError(
        "NO_CANARY",
        f"cannot {kind} {command.service_id}: no canary of it is under way; deploy one with strategy canary",
    )
