"""The messages of agents after their hello: checked, and written into the store.

A message that is not understood is counted, logged and ignored; the connection stays open.
"""

from __future__ import annotations

import json
import logging

from syntra.connection import enrolment
from syntra.connection.codec import Envelope
from syntra.controlplane.clock import Clock
from syntra.controlplane.enrolment import Enrolment
from syntra.controlplane.fitting import fitted
from syntra.controlplane.fleet import AgentLink, Fleet
from syntra.controlplane.records import LogLine
from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.telemetry.intake import TelemetryIntake
from syntra.controlplane.waiters import Waiters
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.ids import deployment_id
from syntra.model.status import DeployState

_log = logging.getLogger(__name__)

HEARTBEAT = "heartbeat"

_STATES = {state.value: state for state in DeployState}
_MOST_LINES = 10_000
# In characters.
_LONGEST_LINE = 64 * 1024
_LONGEST_TIMESTAMP = 64
_LONGEST_STREAM = 16
_LONGEST_NAME = 256


class Inbox:
    """Takes the messages of all agents."""

    def __init__(
        self,
        store: StoreThread,
        fleet: Fleet,
        telemetry: TelemetryIntake,
        waiters: Waiters,
        limits: Limits,
        clock: Clock,
        enrolment: Enrolment | None = None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._telemetry = telemetry
        self._waiters = waiters
        self._limits = limits
        self._clock = clock
        self._enrolment = enrolment

    async def take(self, link: AgentLink, envelope: Envelope, size: int) -> None:
        """Process one message of `size` bytes. Raises StoreError, and WebSocketClosed when an answer cannot be sent."""
        try:
            understood = await self._dispatch(link, envelope, size)
            reason = "unknown type, or not about a command or deployment of this server"
        except InvalidField as exc:
            understood, reason = False, str(exc)
        if not understood:
            _log.warning(
                "message ignored",
                extra={"server_id": link.server_id, "type": envelope.type[:64], "reason": reason[:512]},
            )
            await self._store.run(Store.count_ignored, link.server_id)

    async def _dispatch(self, link: AgentLink, envelope: Envelope, size: int) -> bool:
        match envelope.type:
            case "heartbeat":
                return await self._heartbeat(link, envelope, size)
            case "command_response":
                return await self._command_response(link, envelope)
            case "deploy_status":
                return await self._deploy_status(link, envelope)
            case "log_stream":
                return await self._log_stream(link, envelope)
            case "alert":
                text = fitted(envelope.payload, self._limits.report_bytes)
                await self._store.run(Store.add_alert, link.server_id, text, self._clock())
                return True
            case "telemetry_batch":
                await self._telemetry.take_message(link, envelope.payload, size)
                return True
            case enrolment.CERT_REQUEST if self._enrolment is not None:
                return await self._enrolment.take(link, envelope)
            case "pong":
                # A ping is a command whose request id is the id of the envelope.
                response = {"request_id": envelope.id, "success": True, "data": dict(envelope.payload)}
                return await self._fleet.answered(link.server_id, envelope.id, response)
            case _:
                return False

    async def _heartbeat(self, link: AgentLink, envelope: Envelope, size: int) -> bool:
        # Answered first: the agent measures the round trip, which must not include the database.
        await self._fleet.pong(link, envelope.id)
        if size > self._limits.heartbeat_bytes:
            raise InvalidField("heartbeat", f"{size} bytes are more than {self._limits.heartbeat_bytes}")
        text = json.dumps(dict(envelope.payload))
        await self._store.run(Store.record_heartbeat, link.server_id, text, self._clock())
        return True

    async def _command_response(self, link: AgentLink, envelope: Envelope) -> bool:
        fields = Fields(envelope.payload)
        request_id = fields.text("request_id")
        fields.boolean("success")
        known = await self._fleet.answered(link.server_id, request_id, envelope.payload)
        if known:
            command = await self._store.run(Store.command, request_id)
            if command is not None and command.deployment_id is not None:
                self._waiters.notify(f"deployment {command.deployment_id}")
        return known

    async def _deploy_status(self, link: AgentLink, envelope: Envelope) -> bool:
        fields = Fields(envelope.payload)
        deployment = deployment_id("deployment_id", fields.text("deployment_id"))
        known = await self._store.run(
            Store.add_event,
            server_id=link.server_id,
            deployment_id=deployment,
            service_id=(fields.optional_text("service_id") or "")[:_LONGEST_NAME] or None,
            status=fields.choice("status", among=_STATES),
            event=fitted(envelope.payload, self._limits.report_bytes),
            now=self._clock(),
        )
        if known:
            self._waiters.notify(f"deployment {deployment}")
        return known

    async def _log_stream(self, link: AgentLink, envelope: Envelope) -> bool:
        fields = Fields(envelope.payload)
        request_id = fields.text("request_id")
        lines = [
            LogLine(
                seq=0,
                timestamp=line.text("timestamp")[:_LONGEST_TIMESTAMP],
                stream=line.text("stream")[:_LONGEST_STREAM],
                message=_message(line),
            )
            for line in fields.sections("logs", limit=_MOST_LINES)
        ]
        done = fields.boolean("done", default=False)
        known = await self._store.run(Store.add_log_lines, link.server_id, request_id, lines, done)
        if known:
            self._waiters.notify(f"logs {request_id}")
        return known


def _message(line: Fields) -> str:
    """The message, which may be any string: containers print NUL too. A long one is cut."""
    path, value = line.raw("message")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidField(path, "is not a string")
    return value[:_LONGEST_LINE]
