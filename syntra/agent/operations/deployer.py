"""Accepts operations: checks them against the journal and the runtime, journals them, and queues them by service."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Mapping

from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.journal.canary import Answered
from syntra.agent.journal.database import JournalError
from syntra.agent.journal.journal import Journal
from syntra.agent.journal.rows import Unfinished
from syntra.agent.messages import CONTROL_PLANE, Reports, about_deployment, for_control_plane, refusal, success
from syntra.agent.operations.canary import check_counter, decide_canary
from syntra.agent.operations.execution import Dependencies, Execution
from syntra.agent.operations.job import Interrupted, Interruption, Job, OperationPhase, cancel_reason
from syntra.agent.operations.name_claims import NameClaims, rename_note, renamed
from syntra.agent.operations.pauses import refuse_paused
from syntra.agent.operations.progress import Outcome, ProgressReporter
from syntra.agent.operations.secrets import with_kept_secrets, with_secrets
from syntra.agent.operations.service_queues import ServiceQueues
from syntra.agent.operations.targets import Targets, already_deployed, not_under_way
from syntra.health.episodes import AlertKind
from syntra.model.command import CanaryCommand, Cancel, Deploy, Operation, Restart, Rollback, Scale, Stop
from syntra.model.command_payload import parse_command
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.ids import ServiceId
from syntra.model.spec import Deployment, Strategy
from syntra.model.status import Failure
from syntra.runtime.errors import RuntimeUnavailable
from syntra.utils.companion import alongside
from syntra.utils.errors import AgentError
from syntra.utils.redact import Redactor, is_secret_name

log = logging.getLogger(__name__)

MAX_NAME_CHARS = 100

# A control plane gives up on a command after 30 s: answer before that.
ANSWER_WITHIN_SECS = 20.0
JOURNAL_RETRY_SECS = 1.0
# Redacting shorter values of non-secret variables (a port, `production`) would blank out half the log.
LEAST_HIDDEN_CHARS = 16


class Deployer:
    """`submit` answers at once; `carry_out` does the work, in the service's queue."""

    def __init__(
        self,
        dependencies: Dependencies,
        queues: ServiceQueues,
        reports: Reports,
        ledger: AlertLedger,
        *,
        redactor: Redactor,
    ) -> None:
        self._dependencies = dependencies
        self._runtime = dependencies.runtime
        self._journal: Journal = dependencies.journal
        self._removal_journal = self._journal.without_disk()
        self._targets = Targets(self._journal, self._runtime, self._has_failed)
        self._reports = reports
        self._ledger = ledger
        self._redactor = redactor
        self.queues = queues
        self.names = NameClaims(self._journal, queues)
        self._resumed = asyncio.Event()

    async def submit(self, command: Operation, kind: str, origin: str, payload: Mapping[str, Json]) -> None:
        """Accept an operation, or raise RequestError. Returns after the acknowledgement is stored and sent."""
        self.queues.check(command.service_id)
        if isinstance(command, Deploy):
            deployment = await with_secrets(command.deployment, self._journal)
            command = dataclasses.replace(command, deployment=deployment)
            self._hide_secrets(command)
            async with self.names.claiming(command) as claimed:
                await self._submit(claimed, kind, origin, payload)
        else:
            await self._submit(command, kind, origin, payload)

    async def _submit(self, command: Operation, kind: str, origin: str, payload: Mapping[str, Json]) -> None:
        await refuse_paused(self._journal, command)
        try:
            job = await self._job(command, kind, origin)
        except RequestError as refused:
            if isinstance(command, Stop) and refused.code == "SERVICE_NOT_FOUND":
                await self._forget_failure(command.service_id)
            raise
        await self._require_engine()
        if isinstance(command, Deploy | Rollback) and job.deployment is not None:
            async with self.names.reserving(job.deployment.spec):
                await self._check(command, job)
                await self._accept(command, job, kind, origin, payload)
        else:
            await self._accept(command, job, kind, origin, payload)

    async def _check(self, command: Deploy | Rollback, job: Job) -> None:
        if isinstance(command, Deploy):
            await check_counter(command.deployment, self._dependencies.canary.counter)
            await self._runtime.check(command.deployment)
        elif job.deployment is not None:
            # Check again: another service may use one of its domains now. A rollback is never a canary.
            await self._runtime.check(dataclasses.replace(job.deployment, strategy=Strategy.ROLLING))

    async def _accept(self, command: Operation, job: Job, kind: str, origin: str, payload: Mapping[str, Json]) -> None:
        job.requested_by = requested_by(payload)
        response = success(command.request_id, {"accepted": True, "deployment_id": job.deployment_id})
        acknowledgement = response if job.reports_deployment else None
        journal = self._removal_journal if isinstance(command, Stop) else self._journal
        await journal.accept(
            command.request_id,
            kind=kind,
            service_id=command.service_id,
            origin=origin,
            payload=_stored_payload(command, job, payload),
            response=acknowledgement,
            # Store a rollback's target too: it may be built from the control plane's image, and be new.
            deployment=job.deployment if isinstance(command, Deploy | Rollback) else None,
            deployment_id=job.deployment_id,
            is_operation=True,
            messages=for_control_plane(origin, "command_response", response) if acknowledgement else [],
        )
        if acknowledgement:
            self._reports.notify(command.request_id, "command_response", acknowledgement)
        await self._add(job)

    def _has_failed(self, service_id: ServiceId) -> bool:
        return self._ledger.is_open(AlertKind.DEPLOYMENT_FAILED, service_id)

    async def _forget_failure(self, service_id: ServiceId) -> None:
        # After a failed first deployment there is nothing to stop: only its alert is left.
        kinds = (AlertKind.DEPLOYMENT_FAILED,)
        await self._ledger.record(
            lambda episodes, now: episodes.forget(now, service_id, "there is no such service", kinds)
        )

    async def decide_canary(self, command: CanaryCommand, kind: str, origin: str) -> None:
        """Promote or abort the running canary, or raise RequestError. Returns after the answer is sent."""
        job = self.queues.running(command.service_id)
        await decide_canary(command, kind, origin, job=job, journal=self._journal, reports=self._reports)

    async def cancel(self, command: Cancel, kind: str, origin: str) -> None:
        """Cancel a waiting or running deployment, or raise RequestError. The answer is stored before this returns."""
        job = self.queues.find(command.deployment_id)
        if job is None:
            raise await not_under_way(command, self._journal)
        response = success(
            command.request_id, {"accepted": True, "service_id": job.service_id, "deployment_id": job.deployment_id}
        )
        answered = Answered(
            request_id=command.request_id,
            kind=kind,
            service_id=job.service_id,
            origin=origin,
            response=response,
            messages=for_control_plane(origin, "command_response", response),
        )
        await self._cancel(job, answered)
        self._reports.notify(command.request_id, "command_response", response)

    async def _cancel(self, job: Job, answered: Answered) -> None:
        failure = cancel_reason(job)
        if self.queues.withdraw(job):
            # Report first: after a kill in between, the next start must not carry it out.
            try:
                await self._end_unbegun(job, failure)
            except JournalError:
                self.queues.put_back(job)
                raise
            await self._journal.canary.answered(answered)
            return
        reason = {"code": failure.code, "message": failure.message}
        if await self._journal.canary.abort(job.command.request_id, reason, answered):
            job.interrupt(Interruption.CANCELLED)
            return
        if job.phase not in (OperationPhase.WAITING, OperationPhase.ROLLING_BACK):
            raise already_deployed(job.deployment_id)
        job.interrupt(Interruption.CANCELLED)
        await self._journal.canary.answered(answered)

    async def _add(self, job: Job) -> None:
        for superseded in self.queues.add(job):
            try:
                await self._supersede(superseded)
            except JournalError as unwritable:
                log.error("superseded operation waits to be reported", extra={"reason": str(unwritable)})
                superseded.interrupt(Interruption.SUPERSEDED)
                self.queues.put_back(superseded)

    def _hide_secrets(self, command: Deploy) -> None:
        # The second line of defence: the agent does not log secrets, but an engine's error text may quote one.
        if command.auth is not None:
            self._redactor.add(command.auth.password)
        self._hide_secrets_of(command.deployment)

    def _hide_secrets_of(self, deployment: Deployment) -> None:
        referring = {name for name, _ in deployment.spec.env_secrets}
        for key, value in deployment.spec.env.items():
            if key in referring or is_secret_name(key) or len(value) >= LEAST_HIDDEN_CHARS:
                self._redactor.add(value)

    async def until_resumed(self) -> None:
        """Return when `resume` is done. Operations accepted earlier would count as those of the last run."""
        await self._resumed.wait()

    async def resume(self) -> int:
        """Queue the unfinished operations of the agent's last run. Returns how many resume."""
        await self._answer_interrupted()
        await self._hide_secrets_of_services()
        resumed = 0
        for row in await self._journal.unfinished():
            job = await self._restored_job(row)
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

    async def _restored_job(self, row: Unfinished) -> Job | None:
        try:
            command = parse_command(row.kind, row.request_id, row.payload)
        except RequestError as broken:
            details = about_deployment(row.kind, row.payload) if row.origin == CONTROL_PLANE else None
            response = refusal(row.request_id, Failure(code=broken.code, message=str(broken)), details)
            messages = for_control_plane(row.origin, "command_response", response)
            await self._journal.finish(row.request_id, response=response, report=None, messages=messages)
            return None
        assert isinstance(command, Deploy | Stop | Scale | Restart | Rollback), "cannot happen: only operations"
        try:
            if isinstance(command, Deploy):
                command = await self._as_accepted(command)
                self._hide_secrets(command)
            job = await self._job(command, row.kind, row.origin, resumed=True)
        except RequestError as gone:
            job = Job(command=command, kind=row.kind, origin=row.origin, deployment=None, replicas=0)
            await self._report_refused(job, gone)
            return None
        job.phase = OperationPhase(row.phase)
        job.requested_by = requested_by(row.payload)
        job.prior = row.prior
        job.begun_at = row.begun_at
        job.reason = row.reason
        job.stage = row.stage
        remembered = await self._journal.find(row.request_id)
        job.answered = remembered is not None and remembered.response is not None
        return job

    async def _as_accepted(self, command: Deploy) -> Deploy:
        """The command with the name and the secrets that it was accepted with, which its stored deployment has."""
        if not command.renames and not command.deployment.spec.env_secrets:
            return command
        kept = await self._journal.deployment(command.service_id, command.deployment.deployment_id)
        return command if kept is None else with_kept_secrets(renamed(command, kept.spec.service_name), kept)

    async def _hide_secrets_of_services(self) -> None:
        # The reconciler creates containers from these deployments without a command.
        for current in await self._journal.current_all():
            if current.deployment is not None:
                self._hide_secrets_of(current.deployment)

    async def _answer_interrupted(self) -> None:
        # Running an exec again could repeat its effect: answer that the result is unknown.
        for request_id, kind, origin in await self._journal.interrupted():
            failure = Failure(
                code="INTERRUPTED", message=f"cannot tell how the {kind} ended: the agent stopped before it finished"
            )
            response = refusal(request_id, failure)
            messages = for_control_plane(origin, "command_response", response)
            await self._journal.finish(request_id, response=response, report=None, messages=messages)

    async def _require_engine(self) -> None:
        try:
            await self._runtime.ping()
        except RuntimeUnavailable as away:
            raise RequestError(away.code, str(away)) from away

    async def _job(self, command: Operation, kind: str, origin: str, *, resumed: bool = False) -> Job:
        deployment, replicas = await self._targets.of(command, resumed=resumed)
        if deployment is not None:
            self._hide_secrets_of(deployment)
        return Job(command=command, kind=kind, origin=origin, deployment=deployment, replicas=replicas)

    async def carry_out(self, job: Job) -> None:
        """Run a job until it is reported. Only the queues call this."""
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
                # Block the queue: an operation left unfinished would undo newer ones at the next start.
                log.error("operation is waiting for the journal", extra=_log_fields(job, unwritable))
                await asyncio.sleep(JOURNAL_RETRY_SECS)
                if job.interruption is Interruption.SHUTDOWN:
                    return
            except Exception as bug:  # a bug in the agent: this queue and the others continue
                log.exception("operation failed unexpectedly", extra=_log_fields(job, bug))
                broken = bug
        await self._collect_garbage(job)

    async def _run(self, job: Job) -> None:
        if job.phase is OperationPhase.WAITING and isinstance(job.command, Scale | Restart | Stop):
            # The current deployment may have changed while the command waited.
            try:
                job.deployment, job.replicas = await self._targets.of(job.command, resumed=True)
            except RequestError as gone:
                await self._report_refused(job, gone)
                return
        # A stop frees space, and a deploy that it interrupts must not delay it: neither needs the disk.
        is_removal = isinstance(job.command, Stop) or job.interruption is Interruption.SUPERSEDED
        journal = self._removal_journal if is_removal else self._journal
        progress = ProgressReporter(job, journal, self._reports, self._ledger)
        if is_removal and journal.warning:
            progress.remark(journal.warning)
        if isinstance(job.command, Deploy) and (note := rename_note(job.command)):
            progress.remark(note)
        execution = Execution(job, dataclasses.replace(self._dependencies, journal=journal), progress)
        if job.reports_deployment or job.origin != CONTROL_PLANE:
            # A local client waits until the operation ends.
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
            log.error("cannot send the late answer", extra=_log_fields(job, unwritable))

    async def _collect_garbage(self, job: Job) -> None:
        """After a report, delete old deployments and their images. Never fails the operation."""
        try:
            await self._journal.trim(job.service_id)
            keep = await self._journal.kept_by_service()
            await self._runtime.collect_garbage(keep, frozenset({job.service_id}))
        except AgentError as later:
            log.info("garbage collection is put off", extra={"reason": str(later)})

    async def _report_broken(self, job: Job, broken: Exception) -> None:
        failure = Failure(code="INTERNAL", message=f"the agent failed: {type(broken).__name__}; see its log")
        await ProgressReporter(job, self._journal, self._reports, self._ledger).finish(Outcome(failure=failure))

    async def _report_refused(self, job: Job, refused: RequestError) -> None:
        job.begun_at = job.begun_at or time.time()
        failure = Failure(code=refused.code, message=str(refused))
        await ProgressReporter(job, self._journal, self._reports, self._ledger).finish(Outcome(failure=failure))

    async def _supersede(self, job: Job) -> None:
        message = f"cannot {job.kind} {job.service_id}: replaced by a newer command for the service"
        await self._end_unbegun(job, Failure(code=Interruption.SUPERSEDED.name, message=message))

    async def _end_unbegun(self, job: Job, failure: Failure) -> None:
        job.begun_at = job.begun_at or time.time()
        await ProgressReporter(job, self._journal, self._reports, self._ledger).finish(Outcome(failure=failure))


def _stored_payload(command: Operation, job: Job, payload: Mapping[str, Json]) -> dict[str, Json]:
    # Registry passwords are never stored: after a kill, a deploy resumes without them.
    kept = {key: value for key, value in payload.items() if key != "registry_auth"}
    if isinstance(command, Rollback):
        # Store the target: after the commit, "the previous deployment" is another one.
        kept["target_deployment_id"] = job.deployment_id
    return kept


def requested_by(payload: Mapping[str, Json]) -> str:
    """The person who asked for an operation, as the payload says; empty where it does not."""
    given = payload.get("requested_by")
    return given[:MAX_NAME_CHARS] if isinstance(given, str) else ""


def _log_fields(job: Job, reason: Exception) -> dict[str, str]:
    return {"request_id": job.command.request_id, "kind": job.kind, "reason": str(reason)}
