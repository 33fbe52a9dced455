"""Reports the progress of one job: statuses while it runs, and one report at its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from sqlite3 import Connection

from syntra.agent.alerts.ledger import AlertLedger, Draft
from syntra.agent.journal.events import EndedDeployment, Event
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import (
    CONTROL_PLANE,
    LOCAL,
    Progress,
    Reports,
    deploy_status,
    for_control_plane,
    refusal,
    success,
)
from syntra.agent.operations.job import Interruption, Job, OperationPhase
from syntra.health.episodes import AlertEvent, AlertKind, Subject
from syntra.model.command import Restart, Rollback, Scale, Stop
from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from syntra.model.status import DeployState, Failure, LogLine, Phase
from syntra.runtime.runtime import Step
from syntra.utils.frozen import frozen

log = logging.getLogger(__name__)

# A pull can report a hundred times a second; once a second is enough to show progress.
PULL_REPORT_SECS = 1.0
# A local client shows how far a step is while it waits.
STEP_REPORT_SECS = 0.25


# Of `deploy_status`, for local clients: the contract has no such fields.
_LOCAL_FIELDS = ("detail", "rolling_back")
_ASKED_BY = {LOCAL: "local user", CONTROL_PLANE: "control plane"}
_PAST = {"stop": "stopped", "restart": "restarted"}


@frozen
class Outcome:
    """How a job ended. `restored`: the previous version runs; `running`: how many replicas do, if that is known."""

    failure: Failure | None
    logs: tuple[LogLine, ...] = field(default=(), repr=False)
    restored: bool = False
    running: int | None = None
    container_ids: tuple[ContainerId, ...] = ()


class ProgressReporter:
    """Renders one job's messages. `began` and `step` return those for the journal's transaction; then call `notify`."""

    def __init__(self, job: Job, journal: Journal, reports: Reports, ledger: AlertLedger) -> None:
        self._job = job
        self._journal = journal
        self._reports = reports
        self._ledger = ledger
        self._unsent: list[tuple[str, Mapping[str, Json]]] = []
        self._phase = Phase.PULL_IMAGE
        self._state = DeployState.PENDING
        self._percent = 0
        self._remarks: list[str] = []
        self._pull: tuple[int, str] | None = None
        self._message_now = ""

    def began(self) -> list[str]:
        """The messages for the job's start."""
        return self._status(DeployState.PENDING, Phase.PULL_IMAGE, 0, f"{self._job.kind} begins")

    def step(self, step: Step, percent: int) -> list[str]:
        """The messages for a step, before it is performed."""
        return self._status(step.state, step.phase, percent, str(step))

    def pulling(self, percent: int, text: str) -> None:
        """Set the progress of a pull, 0–100; `pump` sends it."""
        self._pull = (percent, text)

    async def pump(self) -> None:
        """Send the pull progress, at most once a second, until cancelled."""
        while True:
            await asyncio.sleep(PULL_REPORT_SECS)
            if self._pull is not None:
                # A pull is the first of several steps; it counts for the first third of the progress.
                percent, text = self._pull[0] // 3, self._pull[1]
                self._pull = None
                for message in self._status(DeployState.PULLING, Phase.PULL_IMAGE, percent, text, detail=text):
                    await self._journal.outbox.add(message)
                self.notify()

    async def tell(self, how_far: Callable[[], str]) -> None:
        """Tell local clients how far the step is, whenever that changes, until cancelled."""
        told = ""
        while True:
            await asyncio.sleep(STEP_REPORT_SECS)
            detail = how_far()
            if detail and detail != told:
                told = detail
                status = self._progress(self._state, self._phase, self._percent, self._message_now, detail=detail)
                # Not for the control plane: each of its messages is stored until it is read.
                self._reports.notify(self._job.command.request_id, "deploy_status", deploy_status(status))

    async def holding(self, sentence: str) -> None:
        """Report that a canary is held; the sentence says for how long."""
        state, phase = DeployState.HEALTH_CHECKING, Phase.HEALTH_CHECK
        for message in self._status(state, phase, self._percent, sentence, detail=sentence):
            await self._journal.outbox.add(message)
        self.notify()

    def remark(self, sentence: str) -> None:
        """Add a sentence to the report's message, once."""
        if sentence not in self._remarks:
            self._remarks.append(sentence)

    def notify(self) -> None:
        """Notify local listeners of the messages that the journal has committed."""
        for kind, payload in self._unsent:
            self._reports.notify(self._job.command.request_id, kind, payload)
        self._unsent.clear()

    async def answer_late(self) -> None:
        """Answer a command that takes longer than a control plane waits; it keeps running."""
        self._job.answered = True
        response = success(self._job.command.request_id, {"accepted": True, "completed": False})
        await self._journal.answer(self._job.command.request_id, response, self._message("command_response", response))
        self.notify()

    async def finish(self, outcome: Outcome) -> None:
        """Write and send the job's report."""
        job = self._job
        failure = outcome.failure
        messages: list[str] = []
        response: dict[str, Json] | None = None
        report: dict[str, Json] | None = None
        if job.reports_deployment:
            report = deploy_status(self._terminal(outcome))
            messages += self._message("deploy_status", report)
        else:
            response = self._refused(failure) if failure else self._done(outcome)
            if not job.answered:
                messages += self._message("command_response", response)
        noted = self._noted(outcome)

        def also(connection: Connection) -> None:
            draft.write(connection)
            self._journal.events.write(connection, [noted])
            if job.brings_deployment:
                self._journal.events.write_ended(connection, self._ended(outcome))

        async with self._ledger.changing() as draft:
            draft.announce(self._alerts(draft, failure), {"request_id": job.command.request_id})
            await self._journal.finish(
                job.command.request_id,
                response=response,
                report=report,
                messages=[*messages, *draft.messages],
                also=also,
            )
        self.notify()
        log.log(
            logging.WARNING if failure else logging.INFO,
            "operation finished",
            extra={
                "kind": job.kind,
                "request_id": job.command.request_id,
                "service_id": job.service_id,
                "deployment_id": job.deployment_id,
                "outcome": failure.code if failure else "done",
                "reason": failure.message if failure else "; ".join(self._remarks),
                "seconds": round(time.time() - (job.begun_at or time.time()), 3),
            },
        )

    def _noted(self, outcome: Outcome) -> Event:
        job, failure = self._job, outcome.failure
        name = job.deployment.spec.service_name if job.deployment else ""
        if failure is not None:
            text = f"{job.kind} failed: {failure.message}"
        elif job.reports_deployment:
            text = _done_sentence(job, outcome.running)
        else:
            text = "removed" if isinstance(job.command, Stop) and job.command.remove else _PAST.get(job.kind, job.kind)
        by = f", asked by {job.requested_by or _ASKED_BY.get(job.origin, job.origin)}"
        secs = time.time() - (job.begun_at or time.time())
        return Event(
            kind=job.kind,
            text=f"{text} (took {secs:.1f} s{by})",
            at=time.time(),
            service_id=job.service_id,
            name=name,
            is_bad=failure is not None,
        )

    def _ended(self, outcome: Outcome) -> EndedDeployment:
        job, failure = self._job, outcome.failure
        now = time.time()
        return EndedDeployment(
            service_id=job.service_id,
            deployment_id=job.deployment_id,
            kind=job.kind,
            image=str(job.deployment.spec.image) if job.deployment else "",
            asked_by=job.requested_by or _ASKED_BY.get(job.origin, job.origin),
            began=job.begun_at or now,
            ended=now,
            outcome=self._end_state(outcome).value,
            reason=failure.message if failure else "",
        )

    def _end_state(self, outcome: Outcome) -> DeployState:
        job, failure = self._job, outcome.failure
        if failure is None:
            return DeployState.RUNNING
        # An abort and a cancel ask for a rollback, whatever `rollback_on_failure` says.
        is_rollback_wanted = job.deployment is not None and job.deployment.rollback_on_failure
        is_asked_for = failure.code in (Interruption.ABORTED.name, Interruption.CANCELLED.name)
        restored = outcome.restored and (is_rollback_wanted or is_asked_for)
        return DeployState.ROLLED_BACK if restored else DeployState.FAILED

    def _refused(self, failure: Failure) -> dict[str, Json]:
        message = "; ".join([failure.message, *self._remarks])
        return refusal(self._job.command.request_id, Failure(code=failure.code, message=message))

    def _done(self, outcome: Outcome) -> dict[str, Json]:
        data: dict[str, Json] = {"service_id": self._job.service_id, "completed": True}
        if isinstance(self._job.command, Stop):
            data["removed"] = self._job.command.remove
        if outcome.running is not None and outcome.running < self._job.replicas:
            self.remark(f"{_running(outcome.running, self._job.replicas)} running")
        if self._remarks:
            data["notes"] = list(self._remarks)
        return success(self._job.command.request_id, data)

    def _terminal(self, outcome: Outcome) -> Progress:
        job = self._job
        failure = outcome.failure
        state = self._end_state(outcome)
        if failure is None:
            percent = 100
            message = "; ".join([_done_sentence(job, outcome.running), *self._remarks])
        else:
            percent = self._percent
            message = "; ".join([failure.message, *self._remarks])
        return self._progress(
            state,
            Phase.CLEANUP if failure is None else self._phase,
            percent,
            message,
            finished_at=time.time(),
            failure=failure,
            logs=outcome.logs,
            container_id=outcome.container_ids[0] if outcome.container_ids and failure is None else None,
        )

    def _status(self, state: DeployState, phase: Phase, percent: int, message: str, *, detail: str = "") -> list[str]:
        if not self._job.reports_deployment:
            return []
        self._state, self._phase, self._percent = state, phase, max(self._percent, percent)
        self._message_now = self._message_now if detail else message
        status = self._progress(state, phase, self._percent, message, detail=detail)
        return self._message("deploy_status", deploy_status(status))

    def _progress(
        self,
        state: DeployState,
        phase: Phase,
        percent: int,
        message: str,
        *,
        finished_at: float | None = None,
        failure: Failure | None = None,
        logs: Sequence[LogLine] = (),
        container_id: str | None = None,
        detail: str = "",
    ) -> Progress:
        return Progress(
            request_id=self._job.command.request_id,
            deployment_id=self._job.deployment_id,
            service_id=self._job.service_id,
            operation=self._job.kind,
            state=state,
            phase=phase,
            percent=percent,
            message=message,
            started_at=self._job.begun_at or time.time(),
            finished_at=finished_at,
            failure=failure,
            logs=tuple(logs),
            container_id=container_id,
            detail=detail,
            is_rolling_back=self._job.phase is OperationPhase.ROLLING_BACK,
        )

    def _message(self, kind: str, payload: Mapping[str, Json]) -> list[str]:
        self._unsent.append((kind, payload))
        if self._job.origin != CONTROL_PLANE:
            return []
        told = {name: value for name, value in payload.items() if name not in _LOCAL_FIELDS}
        return for_control_plane(self._job.origin, kind, told)

    def _alerts(self, draft: Draft, failure: Failure | None) -> list[AlertEvent]:
        job = self._job
        name = job.deployment.spec.service_name if job.deployment else job.service_id
        subject = Subject(key=job.service_id, name=name, service_id=job.service_id)
        if failure is not None:
            return draft.episodes.deployment_failed(
                draft.now, subject, job.deployment_id, failure.message, code=failure.code, what=job.kind
            )
        if job.reports_deployment:
            return draft.episodes.deployed(draft.now, subject)
        if isinstance(job.command, Restart):
            return draft.episodes.restarted(draft.now, subject, job.deployment_id)
        if isinstance(job.command, Stop):
            kinds = (AlertKind.DEPLOYMENT_FAILED,)
            return draft.episodes.forget(draft.now, subject.key, "the service was stopped", kinds)
        return []


def _running(running: int, wanted: int) -> str:
    count = str(running) if running == wanted else f"{running} of {wanted}"
    return f"{count} {'replica' if wanted == 1 else 'replicas'}"


def _done_sentence(job: Job, running: int | None) -> str:
    # What is not known is said in a remark.
    replicas = f"{_running(job.replicas if running is None else running, job.replicas)} running"
    match job.command:
        case Scale():
            return f"scaled: {replicas}"
        case Rollback():
            return f"rolled back to {job.deployment_id}: {replicas}"
        case _:
            return f"deployed: {replicas}"
