"""Takes operations on: checks them against what is known, journals them, and runs them in their service's lane."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping

from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.journal.database import JournalError
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import ServiceRow, Unfinished
from syntra.agent.messages import CONTROL_PLANE, Reports, envelope, refusal, success
from syntra.agent.operations.canary import check_canary
from syntra.agent.operations.canary_control import decide_canary
from syntra.agent.operations.execution import Execution
from syntra.agent.operations.job import Interrupted, Interruption, Job, OperationPhase
from syntra.agent.operations.progress import Outcome, ProgressReporter
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.agent.operations.step_runner import Tools
from syntra.health.episodes import AlertKind
from syntra.model.command import CanaryCommand, Deploy, Operation, Restart, Rollback, Scale, Stop
from syntra.model.command_payload import parse_command
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.ids import ServiceId
from syntra.model.spec import Deployment, Strategy
from syntra.model.spec_payload import fingerprint
from syntra.model.status import Failure
from syntra.runtime.errors import RuntimeUnavailable
from syntra.utils.companion import alongside
from syntra.utils.errors import AgentError
from syntra.utils.redact import Redactor, is_secret_name

log = logging.getLogger(__name__)

# A control plane gives a command up after 30 s; it is answered before that.
ANSWER_WITHIN_SECS = 20.0
JOURNAL_RETRY_SECS = 1.0
# Shorter values of harmless names (a port, `production`) would blank out half the log.
LEAST_HIDDEN_CHARS = 16


class Deployer:
    """The agent's hands. `submit` answers at once; the work goes on in a lane."""

    def __init__(
        self,
        tools: Tools,
        reports: Reports,
        ledger: AlertLedger,
        group: asyncio.TaskGroup,
        *,
        redactor: Redactor,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._tools = tools
        self._journal: Journal = tools.journal
        self._reports = reports
        self._ledger = ledger
        self._redactor = redactor
        self.queues = ServiceQueues(group, self._carry_out, on_idle=on_idle)
        self._resumed = asyncio.Event()

    async def submit(self, command: Operation, kind: str, origin: str, payload: Mapping[str, Json]) -> None:
        """Accept an operation, or raise RequestError. The acknowledgement is told and sent by the time this returns."""
        self.queues.check(command.service_id)
        self._hide_secrets(command)
        try:
            job = await self._job(command, kind, origin)
        except RequestError:
            if isinstance(command, Stop):
                await self._forget_failure(command.service_id)
            raise
        if isinstance(command, Deploy):
            await self._tools.traffic.check(command.deployment)
        elif isinstance(command, Rollback) and job.deployment is not None:
            # Another service may have taken one of its domains since; a rollback is never a canary.
            await self._tools.traffic.check(dataclasses.replace(job.deployment, strategy=Strategy.ROLLING))
        await self._require_engine()
        if isinstance(command, Deploy):
            await check_canary(command.deployment, self._tools.adapter, self._tools.canary.counter)
        response = success(command.request_id, {"accepted": True, "deployment_id": job.deployment_id})
        early = response if job.reports_deployment else None
        messages = [envelope("command_response", response)] if early and origin == CONTROL_PLANE else []
        await self._journal.accept(
            command.request_id,
            kind=kind,
            service_id=command.service_id,
            origin=origin,
            payload=_kept_payload(command, job, payload),
            response=early,
            # A rollback keeps what it goes to as well: it may be made of what the control plane told.
            deployment=job.deployment if isinstance(command, Deploy | Rollback) else None,
            deployment_id=job.deployment_id,
            is_operation=True,
            messages=messages,
        )
        if early:
            self._reports.tell(command.request_id, "command_response", early)
        await self._add(job)

    async def _forget_failure(self, service_id: ServiceId) -> None:
        # A first deployment that failed leaves nothing that a stop could be carried out on, only its alert.
        kinds = (AlertKind.DEPLOYMENT_FAILED,)
        await self._ledger.record(
            lambda episodes, now: episodes.forget(now, service_id, "there is no such service", kinds)
        )

    async def decide_canary(self, command: CanaryCommand, kind: str, origin: str) -> None:
        """Promote or abort the canary under way, or raise RequestError. The answer is sent by the time this returns."""
        job = self.queues.running(command.service_id)
        await decide_canary(command, kind, origin, job=job, journal=self._journal, reports=self._reports)

    async def _add(self, job: Job) -> None:
        for pointless in self.queues.add(job):
            try:
                await self._supersede(pointless)
            except JournalError as unwritable:
                log.error("superseded operation waits to be reported", extra={"reason": str(unwritable)})
                pointless.interrupt(Interruption.SUPERSEDED)
                self.queues.put_back(pointless)

    def _hide_secrets(self, command: Operation) -> None:
        # The second line of defence: nothing of ours logs these, but an engine's error text may quote one.
        if not isinstance(command, Deploy):
            return
        if command.auth is not None:
            self._redactor.add(command.auth.password)
        self._hide_secrets_of(command.deployment)

    def _hide_secrets_of(self, deployment: Deployment) -> None:
        for key, value in deployment.spec.env.items():
            if is_secret_name(key) or len(value) >= LEAST_HIDDEN_CHARS:
                self._redactor.add(value)

    async def until_resumed(self) -> None:
        """Return when `resume` is done: what is accepted before that would be taken for what the last run left."""
        await self._resumed.wait()

    async def resume(self) -> int:
        """Take up what the last run of the agent left; returns how many operations go on."""
        await self._answer_interrupted()
        await self._hide_what_runs()
        resumed = 0
        for row in await self._journal.unfinished():
            job = await self._recalled(row)
            if job is None:
                continue
            resumed += 1
            log.info(
                "operation resumed",
                extra={
                    "request_id": row.request_id,
                    "kind": row.kind,
                    "phase": row.phase,
                    "service_id": job.service_id,
                },
            )
            await self._add(job)
        self._resumed.set()
        return resumed

    async def _recalled(self, row: Unfinished) -> Job | None:
        try:
            command = parse_command(row.kind, row.request_id, row.payload)
        except RequestError as broken:
            response = refusal(row.request_id, Failure(code=broken.code, message=str(broken)))
            messages = [envelope("command_response", response)] if row.origin == CONTROL_PLANE else []
            await self._journal.finish(row.request_id, response=response, report=None, messages=messages)
            return None
        assert isinstance(command, Deploy | Stop | Scale | Restart | Rollback), "cannot happen: only operations"
        self._hide_secrets(command)
        try:
            job = await self._job(command, row.kind, row.origin, resumed=True)
        except RequestError as gone:
            job = Job(command=command, kind=row.kind, origin=row.origin, deployment=None, replicas=0)
            await self._report_refused(job, gone)
            return None
        job.phase = OperationPhase(row.phase)
        job.prior = row.prior
        job.begun_at = row.begun_at
        job.reason = row.reason
        job.stage = row.stage
        remembered = await self._journal.find(row.request_id)
        job.answered = remembered is not None and remembered.response is not None
        return job

    async def _hide_what_runs(self) -> None:
        # What is kept without a command is made of these.
        for row in await self._journal.services():
            try:
                deployment = await self._journal.deployment(row.service_id, row.deployment_id)
            except JournalError as unreadable:
                log.error("deployment is unreadable", extra={"reason": str(unreadable)})
                continue
            if deployment is not None:
                self._hide_secrets_of(deployment)

    async def _answer_interrupted(self) -> None:
        # Running an exec a second time could do its effect twice; saying that nobody knows is the honest answer.
        for request_id, kind, origin in await self._journal.interrupted():
            failure = Failure(
                code="INTERRUPTED", message=f"cannot tell how the {kind} ended: the agent stopped in the middle of it"
            )
            response = refusal(request_id, failure)
            messages = [envelope("command_response", response)] if origin == CONTROL_PLANE else []
            await self._journal.finish(request_id, response=response, report=None, messages=messages)

    async def _require_engine(self) -> None:
        try:
            await self._tools.adapter.ping()
        except RuntimeUnavailable as away:
            raise RequestError(away.code, str(away)) from away

    async def _job(self, command: Operation, kind: str, origin: str, *, resumed: bool = False) -> Job:
        row = await self._journal.service(command.service_id)
        deployment, replicas = await self._resolved(command, row, resumed=resumed)
        if deployment is not None:
            self._hide_secrets_of(deployment)
        return Job(command=command, kind=kind, origin=origin, deployment=deployment, replicas=replicas)

    async def _resolved(
        self, command: Operation, row: ServiceRow | None, *, resumed: bool
    ) -> tuple[Deployment | None, int]:
        match command:
            case Deploy(deployment=deployment):
                if not resumed:
                    await self._refuse_changed(deployment)
                return deployment, deployment.spec.replicas
            case Rollback():
                deployment = await self._rollback_target(command, row)
                replicas = row.replicas if row and not row.stopped else deployment.spec.replicas
                # A target that holds a host port has a place for one.
                return deployment, min(replicas, 1) if deployment.spec.host_port is not None else replicas
            case Scale(replicas=replicas):
                deployment = await self._current(command.service_id, row)
                port = deployment.spec.host_port
                if port is not None and replicas > 1:
                    raise RequestError(
                        "INVALID_PAYLOAD", f"replicas: {replicas} replicas cannot share host port {port}; use 1"
                    )
                return deployment, replicas
            case Restart():
                deployment = await self._current(command.service_id, row)
                return deployment, row.replicas if row else deployment.spec.replicas
            case Stop():
                if row is None and not resumed and not await self._tools.adapter.observe(command.service_id):
                    raise _unknown(command.service_id)
                current = await self._journal.deployment(command.service_id, row.deployment_id) if row else None
                return current, row.replicas if row else 0

    async def _current(self, service_id: ServiceId, row: ServiceRow | None) -> Deployment:
        deployment = await self._journal.deployment(service_id, row.deployment_id) if row else None
        if deployment is None:
            raise _unknown(service_id)
        return deployment

    async def _rollback_target(self, command: Rollback, row: ServiceRow | None) -> Deployment:
        service_id, target = command.service_id, command.target
        kept = await self._journal.kept(service_id)
        if target is None:
            target = next((known for known in kept if row is None or known != row.deployment_id), None)
            if target is None:
                raise RequestError(
                    "NO_ROLLBACK_TARGET", f"cannot roll back {service_id}: no earlier deployment is kept; deploy one"
                )
        deployment = await self._journal.deployment(service_id, target) if target in kept else None
        if deployment is None and command.image is not None and row is not None:
            # Not kept, but the control plane knows what it ran: the current settings with that image.
            current = await self._current(service_id, row)
            spec = dataclasses.replace(current.spec, image=command.image)
            deployment = dataclasses.replace(current, deployment_id=target, spec=spec)
        if deployment is None:
            known = ", ".join(kept) or "none"
            raise RequestError(
                "DEPLOYMENT_NOT_FOUND", f"cannot roll back {service_id} to {target}: not kept; kept are: {known}"
            )
        return deployment

    async def _refuse_changed(self, deployment: Deployment) -> None:
        # Replicas are told apart by deployment id; one id with two specs would make a rollback ambiguous.
        spec = deployment.spec
        known = await self._journal.deployment(spec.service_id, deployment.deployment_id)
        if known is not None and fingerprint(known.spec) != fingerprint(spec):
            raise RequestError(
                "DEPLOYMENT_EXISTS",
                f"deployment_id: {deployment.deployment_id} is kept with another spec; use a new deployment_id",
            )

    async def _carry_out(self, job: Job) -> None:
        broken: Exception | None = None
        while True:
            try:
                if broken is None:
                    await self._run(job)
                else:
                    await self._report_broken(job, broken)
                break
            except Interrupted as parked:
                assert parked.cause is Interruption.SHUTDOWN, "cannot happen: every other interruption is reported"
                return
            except JournalError as unwritable:
                # The lane waits: an operation left behind unfinished would, at the next start, undo newer ones.
                log.error("operation waits for the journal", extra=_about(job, unwritable))
                await asyncio.sleep(JOURNAL_RETRY_SECS)
                if job.interruption is Interruption.SHUTDOWN:
                    return
            except Exception as bug:  # a bug of ours: the lane and its neighbours go on
                log.exception("operation broke", extra=_about(job, bug))
                broken = bug
        await self._settle(job)

    async def _run(self, job: Job) -> None:
        if job.phase is OperationPhase.WAITING and isinstance(job.command, Scale | Restart | Stop):
            # What was current when the command came may have been replaced while it waited.
            try:
                row = await self._journal.service(job.service_id)
                job.deployment, job.replicas = await self._resolved(job.command, row, resumed=True)
            except RequestError as gone:
                await self._report_refused(job, gone)
                return
        progress = ProgressReporter(job, self._journal, self._reports, self._ledger)
        execution = Execution(job, self._tools, progress)
        if job.reports_deployment or job.origin != CONTROL_PLANE:
            # A person at the local socket waits as long as it takes.
            await execution.run()
        else:
            await alongside(execution.run(), self._answer_late(job, progress))

    async def _answer_late(self, job: Job, progress: ProgressReporter) -> None:
        if job.answered:
            return
        await asyncio.sleep(ANSWER_WITHIN_SECS)
        try:
            await progress.answer_late()
        except JournalError as unwritable:
            job.answered = False
            log.error("late answer could not be given", extra=_about(job, unwritable))

    async def _settle(self, job: Job) -> None:
        """What follows a report: only the last deployments and their images are kept. Never fails the operation."""
        try:
            await self._journal.trim(job.service_id)
            keep = await self._journal.kept_by_service()
            await self._tools.adapter.collect_garbage(keep, frozenset({job.service_id}))
        except AgentError as later:
            log.info("garbage stays for now", extra={"reason": str(later)})

    async def _report_broken(self, job: Job, broken: Exception) -> None:
        failure = Failure(code="INTERNAL", message=f"the agent failed: {type(broken).__name__}; see its log")
        await ProgressReporter(job, self._journal, self._reports, self._ledger).finish(Outcome(failure=failure))

    async def _report_refused(self, job: Job, refused: RequestError) -> None:
        job.begun_at = job.begun_at or time.time()
        failure = Failure(code=refused.code, message=str(refused))
        await ProgressReporter(job, self._journal, self._reports, self._ledger).finish(Outcome(failure=failure))

    async def _supersede(self, job: Job) -> None:
        job.begun_at = job.begun_at or time.time()
        message = f"cannot {job.kind} {job.service_id}: a newer command for the service took its place"
        failure = Failure(code=Interruption.SUPERSEDED.name, message=message)
        await ProgressReporter(job, self._journal, self._reports, self._ledger).finish(Outcome(failure=failure))


def _kept_payload(command: Operation, job: Job, payload: Mapping[str, Json]) -> dict[str, Json]:
    # Registry passwords are never stored: a deploy that a kill interrupted goes on without them.
    kept = {key: value for key, value in payload.items() if key != "registry_auth"}
    if isinstance(command, Rollback):
        # "The one before" is another once the rollback is committed.
        kept["target_deployment_id"] = job.deployment_id
    return kept


def _about(job: Job, reason: Exception) -> dict[str, str]:
    return {"request_id": job.command.request_id, "kind": job.kind, "reason": str(reason)}


def _unknown(service_id: ServiceId) -> RequestError:
    return RequestError("SERVICE_NOT_FOUND", f"cannot find service {service_id}: nothing of it was deployed here")
