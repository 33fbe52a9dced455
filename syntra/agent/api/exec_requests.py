"""`exec`: in which container a command runs, what is answered, and what of the answer the journal keeps.

Output is answered and not kept: a repeated request id gets the exit code. An answer for the control plane waits in the
outbox, with its output, until it is read.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from syntra.agent.api.exec_session import ExecChannel, ExecSession, Source
from syntra.agent.journal.journal import Journal
from syntra.agent.messages import Peer, PeerGone, Reports, for_control_plane, refusal, success
from syntra.model import exec_frames
from syntra.model.command import Copy, Exec, ExecStreams
from syntra.model.fields import Json
from syntra.model.status import Failure, Replica
from syntra.runtime.errors import ExecTimedOut, RuntimeFailure, StepFailed
from syntra.runtime.runtime import Replicas
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)


class ExecSource(Replicas, Source, Protocol):
    """Where commands run."""


@runtime_checkable
class AttachablePeer(Protocol):
    """A peer whose connection can carry the streams of a command."""

    def attach(self) -> ExecChannel:
        """Give the connection to one exec; raises RequestError when it carries something else already."""


class ExecRequests:
    """Carries out execs that the router has taken."""

    def __init__(self, runtime: ExecSource, journal: Journal, reports: Reports) -> None:
        self._runtime = runtime
        self._journal = journal
        self._reports = reports

    async def accept(self, command: Exec | Copy, kind: str, peer: Peer) -> None:
        """Remember the request id before anything is done."""
        await self._journal.accept(
            command.request_id,
            kind=kind,
            service_id=command.service_id,
            origin=peer.origin,
            # What was run is of no use after a restart (it is never run again), and may be secret.
            payload={},
            response=None,
            deployment=None,
            is_operation=False,
            messages=[],
        )

    async def run(self, command: Exec, peer: Peer) -> None:
        """Run to the end and answer with the beginning of the output."""
        response = await self._response(command)
        await self._keep(command, response, for_control_plane(peer.origin, "command_response", response))
        self._reports.notify(command.request_id, "command_response", response)

    async def attached(self, command: Exec | Copy, streams: ExecStreams, peer: Peer, channel: ExecChannel) -> None:
        """Run with the client's streams. When the client leaves, and when this is cancelled, the command ends."""
        session = ExecSession(self._runtime, command, streams, channel)
        left = "cannot tell how the command ended: its client left, or the agent stopped"
        response = refusal(command.request_id, Failure(code="INTERRUPTED", message=left))
        end = b""
        try:
            try:
                replica = await self._replica(command)
                accepted: dict[str, Json] = {
                    "attached": True,
                    "container_id": replica.container_id,
                    "replica": replica.index,
                }
                exit_code = await session.run(replica.container_id, accepted)
                response = success(command.request_id, {"exit_code": exit_code})
                end = exec_frames.exited(exit_code)
            except RuntimeFailure as failed:
                response = refusal(command.request_id, Failure(code=failed.code, message=str(failed)))
                end = exec_frames.failed(failed.code, str(failed))
            except PeerGone:
                log.debug("exec client is gone", extra={"request_id": command.request_id})
            finally:
                # First kept, then sent, as every answer.
                await self._keep(command, response, [])
            if not session.is_accepted:
                await peer.respond(response)
            elif end:
                await channel.send(end)
        finally:
            channel.close()

    async def _response(self, command: Exec) -> dict[str, Json]:
        try:
            replica = await self._replica(command)
            result = await self._runtime.execute(
                replica.container_id,
                command.argv,
                env=command.env,
                working_dir=command.working_dir,
                deadline_secs=command.timeout_secs or 0,
            )
        except ExecTimedOut as late:
            said = output(late.stdout, late.stderr, truncated=late.truncated)
            return refusal(command.request_id, Failure(code=late.code, message=str(late)), said)
        except RuntimeFailure as failed:
            return refusal(command.request_id, Failure(code=failed.code, message=str(failed)))
        said = output(result.stdout, result.stderr, truncated=result.truncated)
        return success(command.request_id, {"exit_code": result.exit_code, **said})

    async def _replica(self, command: Exec | Copy) -> Replica:
        replicas = sorted(
            await self._runtime.observe(command.service_id), key=lambda r: (not r.is_running, -r.created_ns, r.index)
        )
        if isinstance(command, Copy):
            return _replica_with_files(command, replicas)
        running = [replica for replica in replicas if replica.is_running]
        if not running:
            raise StepFailed("CONTAINER_NOT_FOUND", f"cannot exec in {command.service_id}: it has no running container")
        if command.replica is None:
            return running[0]
        for replica in running:
            if replica.index == command.replica:
                return replica
        raise StepFailed(
            "CONTAINER_NOT_FOUND",
            f"cannot exec in {command.service_id}: replica {command.replica} does not run; use {_numbers(running)}",
        )

    async def _keep(self, command: Exec | Copy, response: Mapping[str, Json], messages: Sequence[str]) -> None:
        try:
            await self._journal.finish(
                command.request_id, response=_without_output(response), report=None, messages=messages
            )
        except AgentError as lost:
            log.error("cannot store the exec result", extra={"reason": str(lost)})


def _replica_with_files(command: Copy, replicas: Sequence[Replica]) -> Replica:
    """Some runtimes copy from stopped replicas; one that does not refuses itself."""
    if not replicas:
        raise StepFailed("CONTAINER_NOT_FOUND", f"cannot copy {command.path}: {command.service_id} has no container")
    for replica in replicas:
        if command.replica in (None, replica.index):
            return replica
    raise StepFailed(
        "CONTAINER_NOT_FOUND",
        f"cannot copy {command.path}: there is no replica {command.replica}; use {_numbers(replicas)}",
    )


def output(stdout: bytes, stderr: bytes, *, truncated: bool) -> dict[str, Json]:
    """Output as JSON carries it: text, or base64 of both streams with `encoding` where one of them is no UTF-8."""
    said: dict[str, Json]
    try:
        said = {"stdout": _text(stdout, cut=truncated), "stderr": _text(stderr, cut=truncated)}
    except UnicodeDecodeError:
        said = {
            "stdout": base64.b64encode(stdout).decode(),
            "stderr": base64.b64encode(stderr).decode(),
            "encoding": "base64",
        }
    if truncated:
        said["truncated"] = True
    return said


def _text(data: bytes, *, cut: bool) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as broken:
        # A limit may fall into the middle of a character; that does not make it binary.
        if cut and broken.reason == "unexpected end of data":
            return data[: broken.start].decode()
        raise


def _without_output(response: Mapping[str, Json]) -> dict[str, Json]:
    kept = dict(response)
    data, error = kept.get("data"), kept.get("error")
    if isinstance(data, dict):
        # The contract has both streams in every answer.
        kept["data"] = {"exit_code": data.get("exit_code"), "stdout": "", "stderr": "", "output_forgotten": True}
    if isinstance(error, dict):
        kept["error"] = {key: value for key, value in error.items() if key != "details"}
    return kept


def _numbers(replicas: Sequence[Replica]) -> str:
    return ", ".join(str(number) for number in sorted({replica.index for replica in replicas}))
