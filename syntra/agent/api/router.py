"""Routes every command, from the control plane, its pending list or the local socket.

A known request id gets its stored answer; a new command is parsed, journaled and carried out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from syntra.agent.api.exec_requests import AttachablePeer, ExecRequests
from syntra.agent.api.exec_session import ExecChannel
from syntra.agent.api.log_streams import LogSubscription, selected
from syntra.agent.api.proxy_requests import ProxyControls, control_proxy
from syntra.agent.api.queries import Queries, telemetry_is_off
from syntra.agent.api.running_requests import RunningRequests, Work
from syntra.agent.api.secret_requests import change_secret
from syntra.agent.api.update_requests import AgentUpdates, update_agent
from syntra.agent.changes import Changes
from syntra.agent.health.check_override import HealthCheckOverride
from syntra.agent.journal.database import JournalError
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import (
    CONTROL_PLANE,
    Peer,
    PeerGone,
    Reports,
    about_deployment,
    envelope,
    refusal,
    success,
)
from syntra.agent.operations.deployer import Deployer
from syntra.agent.operations.indirect import IndirectCommands, Settled
from syntra.agent.operations.pauses import Pauses
from syntra.model.command import (
    Abort,
    CanaryCommand,
    Cancel,
    Command,
    ConfigureHealthCheck,
    Copy,
    Deploy,
    Exec,
    IndirectCommand,
    InstallCertificate,
    LogsSubscribe,
    LogsUnsubscribe,
    Operation,
    PauseService,
    Promote,
    ProxyControl,
    Query,
    RemoveSecret,
    Restart,
    RestartContainer,
    ResumeService,
    Rollback,
    Scale,
    SetSecret,
    SplitTraffic,
    Stop,
    StopContainer,
    StopDeployment,
    SwitchTraffic,
    TelemetryTail,
    UpdateAgent,
)
from syntra.model.command_payload import parse_command, request_id_of
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.ids import RequestId, ServiceId
from syntra.model.status import Failure
from syntra.runtime.errors import RuntimeFailure, StepFailed, first_of
from syntra.runtime.runtime import Runtime
from syntra.utils.errors import AgentError
from syntra.utils.keyed_lock import KeyedLock

log = logging.getLogger(__name__)


class Certificates(Protocol):
    """Installs certificates; see `agent.proxy.certificates`."""

    async def install(self, command: InstallCertificate) -> dict[str, Json]:
        """Returns the data of the response. Raises AgentError, never with the key in it."""


class TelemetryTails(Protocol):
    """Streams telemetry; see `agent.telemetry.process`."""

    def tail(self, filters: Mapping[str, Json]) -> AsyncGenerator[Mapping[str, Json], None]:
        """What is received from now on. Raises AgentError when nothing more comes."""


class Router:
    """Dispatches commands. RunningRequests (exec, queries, streams) are tasks of `group`; see `running_requests`."""

    def __init__(
        self,
        *,
        deployer: Deployer,
        journal: Journal,
        runtime: Runtime,
        changes: Changes,
        queries: Queries,
        check_override: HealthCheckOverride,
        reports: Reports,
        group: asyncio.TaskGroup,
        proxy: ProxyControls | None = None,
        certificates: Certificates | None = None,
        telemetry: TelemetryTails | None = None,
        updates: AgentUpdates | None = None,
        standby: Callable[[], str] = str,
    ) -> None:
        """`standby` says why this agent does not act, or is empty; then only queries are answered."""
        self._standby = standby
        self._proxy = proxy
        self._updates = updates
        self._certificates = certificates
        self._telemetry = telemetry
        self._indirect = IndirectCommands(journal, runtime, deployer.queues)
        self._deployer = deployer
        self._journal = journal
        self._runtime = runtime
        self._changes = changes
        self._queries = queries
        self._check_override = check_override
        self._pauses = Pauses(journal, changes)
        self._reports = reports
        self._group = group
        # Find and accept a request id under one lock: the same id may arrive twice at once.
        self._admission = KeyedLock()
        self._requests = RunningRequests(group)
        self._execs = ExecRequests(runtime, journal, reports)
        self._streams: dict[tuple[int, RequestId], tuple[ServiceId, asyncio.Task[None]]] = {}

    async def handle(self, kind: str, envelope_id: str, payload: Mapping[str, Json], peer: Peer) -> None:
        """Handle one message. Returns once it is answered or running; an invalid message does not raise.

        Raises AgentError when not even a refusal can be stored.
        """
        try:
            request_id = request_id_of(envelope_id, payload)
        except RequestError as broken:
            if not envelope_id:
                # A client cannot match an answer without an id.
                log.warning("message without an id ignored", extra={"kind": kind[:60]})
                return
            await peer.respond(_refused(kind, envelope_id[:200], broken, payload, peer))
            return
        try:
            command = parse_command(kind, request_id, payload)
            await self._dispatch(command, kind, payload, peer)
        except RequestError as refused:
            log.info("command refused", extra={"kind": kind, "request_id": request_id, "reason": str(refused)})
            await peer.respond(_refused(kind, request_id, refused, payload, peer))
        except (JournalError, RuntimeFailure) as failed:
            log.error("command failed", extra={"kind": kind, "request_id": request_id, "reason": str(failed)})
            await peer.respond(_refused(kind, request_id, failed, payload, peer))

    def forget(self, peer: Peer) -> None:
        """End the streams of a peer that has disconnected."""
        for (owner, _), (_, task) in list(self._streams.items()):
            if owner == id(peer):
                task.cancel()

    def cancel_requests(self) -> None:
        """The agent stops: execs, queries and streams end."""
        self._requests.end()

    async def _dispatch(self, command: Command, kind: str, payload: Mapping[str, Json], peer: Peer) -> None:
        if reason := self._standby():
            if not isinstance(command, Query):
                raise RequestError("BUSY", f"cannot run `{kind}`: {reason}")
        else:
            await self._deployer.until_resumed()
        match command:
            case Deploy() | Stop() | Scale() | Restart() | Rollback():
                await self._uncancelled(
                    self._admit(command, peer, self._deployer.submit(command, kind, peer.origin, payload))
                )
            case Promote() | Abort():
                await self._uncancelled(
                    self._admit(command, peer, self._deployer.decide_canary(command, kind, peer.origin))
                )
            case Cancel():
                await self._uncancelled(self._admit(command, peer, self._deployer.cancel(command, kind, peer.origin)))
            case RestartContainer() | StopContainer() | StopDeployment() | SwitchTraffic() | SplitTraffic():
                await self._dispatch_indirect(command, peer)
            case InstallCertificate():
                if self._certificates is None:
                    raise RequestError(
                        "UNSUPPORTED",
                        "cannot install a certificate: this agent writes no files for Traefik; set networking.proxy to"
                        " traefik-file, or on a cluster give the certificate to its ingress controller",
                    )
                self._requests.check(peer.share)
                work = self._install(command, self._certificates, peer)
                self._requests.start(work, f"certificate {command.service_id}", peer.share)
            case Exec() | Copy():
                await self._take_exec(command, kind, peer)
            case ConfigureHealthCheck() | PauseService() | ResumeService():
                async with self._admission.holding(command.request_id):
                    if not await self._repeat(command.request_id, peer):
                        if isinstance(command, ConfigureHealthCheck):
                            response = await self._check_override.carry_out(command, peer.origin)
                        else:
                            response = await self._pauses.carry_out(command, peer.origin)
                        self._reports.notify(command.request_id, "command_response", response)
            case LogsSubscribe():
                if (id(peer), command.request_id) in self._streams:
                    log.info("request repeated", extra={"request_id": command.request_id, "answered": True})
                    return
                self._requests.check(peer.share)
                self._stream_to(peer, command.request_id, command.service_id, self._stream(command, peer), "logs")
            case TelemetryTail():
                if self._telemetry is None:
                    await telemetry_is_off()
                self._requests.check(peer.share)
                self._stream_to(peer, command.request_id, ServiceId(""), self._tail(command, peer), "telemetry tail")
            case LogsUnsubscribe():
                await self._unsubscribe(command, peer)
            case Query():
                self._requests.query(
                    self._answer(command, peer),
                    f"query {command.kind.value}",
                    peer.share,
                    lambda late: peer.respond(refusal(command.request_id, Failure(code=late.code, message=str(late)))),
                )
            case ProxyControl():
                if peer.origin == CONTROL_PLANE:
                    # The server's operator decides what listens on its ports, not the control plane.
                    raise RequestError("UNSUPPORTED", f"cannot run `{kind}`: it is available on the local socket only")
                if self._proxy is None:
                    reason = "a cluster routes domains with its own ingress; see docs/kubernetes.md"
                    raise RequestError("UNSUPPORTED", f"cannot run `{kind}`: {reason}")
                self._requests.check(peer.share)
                self._requests.start(control_proxy(command, self._proxy, peer), kind, peer.share)
            case SetSecret() | RemoveSecret():
                data = await change_secret(command, self._journal, peer)
                await peer.respond(success(command.request_id, data))
            case UpdateAgent():
                if self._updates is None:
                    raise RequestError("UNSUPPORTED", "cannot update the agent: updates are not part of this agent")
                self._requests.check(peer.share)
                self._requests.start(update_agent(command, self._updates, peer), kind, peer.share)

    async def _take_exec(self, command: Exec | Copy, kind: str, peer: Peer) -> None:
        channel: ExecChannel | None = None
        async with self._admission.holding(command.request_id):
            if await self._repeat(command.request_id, peer):
                return
            self._requests.check(peer.share)
            if command.streams is not None:
                if not isinstance(peer, AttachablePeer):
                    what = "exec with `stream`" if isinstance(command, Exec) else "copy"
                    raise RequestError("UNSUPPORTED", f"cannot {what}: it is available on the local socket only")
                channel = peer.attach()
            await self._execs.accept(command, kind, peer)
        if isinstance(command, Exec) and (command.streams is None or channel is None):
            self._requests.start(self._execs.run(command, peer), f"exec {command.service_id}", peer.share)
            return
        assert command.streams is not None and channel is not None, "a copy has both"
        work = self._execs.attached(command, command.streams, peer, channel)
        self._stream_to(peer, command.request_id, command.service_id, work, "exec")

    def _stream_to(self, peer: Peer, request_id: RequestId, service_id: ServiceId, work: Work, kind: str) -> None:
        """Begin work that ends when its peer is gone."""
        task = self._requests.start(work, f"{kind} {service_id}", peer.share)
        key = (id(peer), request_id)
        self._streams[key] = (service_id, task)
        task.add_done_callback(lambda _: self._streams.pop(key, None))

    async def _dispatch_indirect(self, command: IndirectCommand, peer: Peer) -> None:
        if await self._journal.find(command.request_id) is not None:
            # Answer as before: the container or deployment may be gone by now.
            await self._repeat(command.request_id, peer)
            return
        found = await self._indirect.resolve(command)
        if isinstance(found, Settled):
            await peer.respond(success(command.request_id, found.data))
        else:
            await self._dispatch(found.command, found.kind, found.payload, peer)

    async def _install(self, command: InstallCertificate, certificates: Certificates, peer: Peer) -> None:
        try:
            response = success(command.request_id, await certificates.install(command))
        except AgentError as failed:
            log.warning("certificate refused", extra={"service_id": command.service_id, "reason": str(failed)})
            response = refusal(command.request_id, Failure(code=failed.code, message=str(failed)))
        await peer.respond(response)

    async def _admit(
        self, command: Operation | CanaryCommand | Cancel, peer: Peer, work: Coroutine[Any, Any, None]
    ) -> None:
        try:
            async with self._admission.holding(command.request_id):
                if not await self._repeat(command.request_id, peer):
                    await work
        finally:
            work.close()

    async def _uncancelled(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work that continues when the caller is cancelled: a journaled command must be carried out."""

        async def outcome() -> BaseException | None:
            # An error must not end the agent's task group.
            outcomes = await asyncio.gather(work, return_exceptions=True)
            return outcomes[0]

        failed = await asyncio.shield(self._group.create_task(outcome(), name="command"))
        if failed is not None:
            raise failed

    async def _repeat(self, request_id: RequestId, peer: Peer) -> bool:
        """Send a known request's stored answer again; False when the id is new. Running work answers at its end."""
        remembered = await self._journal.find(request_id)
        if remembered is None:
            return False
        log.info("request repeated", extra={"request_id": request_id, "answered": remembered.response is not None})
        if remembered.is_forgotten:
            forgotten = "cannot repeat the answer: the command was carried out, and its answer is no longer kept"
            await peer.respond(refusal(request_id, Failure(code="ANSWER_FORGOTTEN", message=forgotten)))
        if remembered.response is not None:
            await peer.respond(remembered.response)
        if remembered.report is not None:
            await self._report_again(remembered.report, peer)
        return True

    async def _report_again(self, report: Mapping[str, Json], peer: Peer) -> None:
        if peer.origin == CONTROL_PLANE:
            await self._journal.outbox.add(envelope("deploy_status", report))
        else:
            await peer.stream("deploy_status", report)

    async def _stream(self, command: LogsSubscribe, peer: Peer) -> None:
        async def send(payload: Mapping[str, Json]) -> None:
            await peer.stream("log_stream", payload)

        try:
            chosen = await selected(self._runtime, command)
            if not chosen.replicas:
                of = f" of deployment {command.deployment_id}" if command.deployment_id else ""
                sentence = f"cannot read logs of {command.service_id}: it has no container{of}"
                raise StepFailed("SERVICE_NOT_FOUND", sentence)
            numbers = sorted({replica.index for replica in chosen.replicas})
            accepted: dict[str, Json] = {"subscribed": True, "follow": command.follow, "replicas": [*numbers]}
            if chosen.failed is not None:
                accepted["failed_deployment_id"] = chosen.failed
            await peer.respond(success(command.request_id, accepted))
            await LogSubscription(self._runtime, self._changes, command, send).run()
        except* RuntimeFailure as failed:
            first = first_of(failed)
            await peer.respond(refusal(command.request_id, Failure(code=first.code, message=str(first))))

    async def _tail(self, command: TelemetryTail, peer: Peer) -> None:
        assert self._telemetry is not None, "cannot happen because the dispatcher has checked it"
        await peer.respond(success(command.request_id, {"subscribed": True}))
        filters: dict[str, Json] = {"service": command.service, "signal": command.signal}
        try:
            async with aclosing(self._telemetry.tail(filters)) as batches:
                async for batch in batches:
                    await peer.stream("telemetry_tail", {**batch, "request_id": command.request_id})
        except PeerGone:
            return
        except AgentError as failed:
            await peer.respond(refusal(command.request_id, Failure(code=failed.code, message=str(failed))))

    async def _unsubscribe(self, command: LogsUnsubscribe, peer: Peer) -> None:
        exact = self._streams.get((id(peer), command.request_id))
        own = [stream for (owner, _), stream in self._streams.items() if owner == id(peer)]
        chosen = [exact] if exact else [stream for stream in own if stream[0] == command.service_id]
        for _, task in chosen:
            task.cancel()
        await peer.respond(success(command.request_id, {"unsubscribed": len(chosen)}))

    async def _answer(self, query: Query, peer: Peer) -> None:
        try:
            response = success(query.request_id, await self._queries.answer(query))
        except AgentError as failed:
            response = refusal(query.request_id, Failure(code=failed.code, message=str(failed)))
        await peer.respond(response)


def _refused(kind: str, request_id: str, why: AgentError, payload: Mapping[str, Json], peer: Peer) -> dict[str, Json]:
    is_told = peer.origin == CONTROL_PLANE and why.code != "DEPLOYMENT_FINISHED"
    details = about_deployment(kind, payload) if is_told else None
    return refusal(request_id, Failure(code=why.code, message=str(why)), details)
