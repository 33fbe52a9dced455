"""One agent's connection, from its token and hello to its close code.

Close codes: 4000 connection error, 4001 missing or bad token, 4002 no or wrong hello, 4003 malformed hello,
4004 heartbeat timeout.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re

from syntra.connection.codec import Envelope, decode, encode
from syntra.connection.enrolment import CERT_ENROLMENT
from syntra.connection.errors import MalformedFrame
from syntra.controlplane.clock import Clock
from syntra.controlplane.enrolment import Enrolment, Presented
from syntra.controlplane.errors import StoreError
from syntra.controlplane.fleet import AgentLink, Fleet
from syntra.controlplane.inbox import HEARTBEAT, Inbox
from syntra.controlplane.settings import Limits, Timings
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.telemetry.intake import BINARY_TELEMETRY, FEATURES, TelemetryIntake
from syntra.controlplane.websocket import WebSocket, WebSocketClosed
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.utils.frozen import frozen

_log = logging.getLogger(__name__)

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.\d{1,4})?")
_OURS = (1, 0)


class _Close(Exception):
    """Ends the connection with a close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@frozen
class AgentSessions:
    """Serves agents; one object for all sessions."""

    store: StoreThread
    fleet: Fleet
    inbox: Inbox
    telemetry: TelemetryIntake
    limits: Limits
    timings: Timings
    clock: Clock
    enrolment: Enrolment | None = None

    async def serve(
        self, socket: WebSocket, server_id: str | None, refusal: str | None = None, presented: Presented | None = None
    ) -> None:
        """Serve one agent until its connection ends, and finish the socket.

        `server_id` is the server that the agent's token belongs to, None without a valid token. `refusal` is why its
        client certificate is not accepted, `presented` the certificate.
        """
        ended = "cancelled"
        try:
            if server_id is None:
                raise _Close(4001, "missing or bad token")
            if refusal is not None:
                raise _Close(4001, refusal)
            hello = await self._hello(socket, server_id)
            await self._connected(socket, server_id, hello, presented)
        except _Close as close:
            ended = close.reason
            socket.begin_close(close.code, close.reason)
        except WebSocketClosed as closed:
            ended = f"{closed.close_code} {closed.reason}"
        except StoreError as exc:
            ended = str(exc)
            socket.begin_close(4000, "the control plane cannot store anything now")
        finally:
            _log.info("agent connection ended", extra={"server_id": server_id, "reason": ended[:512]})
            await socket.finish()

    async def _hello(self, socket: WebSocket, server_id: str) -> Envelope:
        try:
            async with asyncio.timeout(self.timings.hello):
                frame = (await socket.receive()).data
        except TimeoutError as exc:
            raise _Close(4002, f"no agent_hello within {self.timings.hello:g} s") from exc
        if len(frame) > self.limits.hello_bytes:
            raise _Close(4003, "agent_hello is too large")
        try:
            hello = decode(frame)
        except MalformedFrame as exc:
            raise _Close(4003, "the first frame is not an envelope") from exc
        if hello.type != "agent_hello":
            raise _Close(4002, "the first message is not agent_hello")
        fields = Fields(hello.payload)
        try:
            fields.text("agent_id")
            fields.text("version")
            claimed = fields.text("server_id")
            speaks = _version("protocol_version", fields.text("protocol_version", default="1.0"))
            needs = _version("min_supported", fields.text("min_supported", default="1.0"))
        except InvalidField as exc:
            raise _Close(4003, f"malformed agent_hello: {exc}") from exc
        if claimed != server_id:
            raise _Close(4001, "the token belongs to another server")
        if not needs <= _OURS <= speaks:
            # People need to read this in the agent's log, so it is not only a close code.
            ack = self.fleet.hello_ack(server_id, server_id, accepted=False, pending=[])
            await socket.send(encode(ack))
            raise _Close(4003, "protocol 1.0 is not supported by the agent")
        return hello

    async def _connected(self, socket: WebSocket, server_id: str, hello: Envelope, presented: Presented | None) -> None:
        now = self.clock()
        name = await self.store.run(Store.record_hello, server_id, json.dumps(dict(hello.payload)), now)
        usable = FEATURES if self.enrolment is None else FEATURES | {CERT_ENROLMENT}
        link = AgentLink(server_id=server_id, connected_at=now, socket=socket, features=_features(hello, usable))
        try:
            await self.fleet.admit(link, name)
            _log.info("agent connected", extra={"server_id": server_id})
            await self._messages(link, presented)
        finally:
            self.fleet.remove(link)

    async def _messages(self, link: AgentLink, presented: Presented | None) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timings.heartbeat
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    message = await link.socket.receive()
            except TimeoutError as exc:
                raise _Close(4004, f"no heartbeat for {self.timings.heartbeat:g} s") from exc
            if self.enrolment is not None and presented is not None:
                # Only now is it certain that the agent has got its hello_ack: the older certificate may go.
                await self.enrolment.used(presented)
                presented = None
            if message.is_binary and BINARY_TELEMETRY in link.features:
                await self.telemetry.take_frame(link, message.data)
                continue
            try:
                envelope = decode(message.data)
            except MalformedFrame as exc:
                raise _Close(4000, f"malformed frame: {exc}") from exc
            if envelope.type == HEARTBEAT:
                deadline = loop.time() + self.timings.heartbeat
            await self.inbox.take(link, envelope, len(message.data))


def _features(hello: Envelope, usable: frozenset[str]) -> frozenset[str]:
    """The extensions that the agent offers and this control plane uses."""
    offered = hello.payload.get("capabilities")
    return usable & {name for name in offered if isinstance(name, str)} if isinstance(offered, list) else frozenset()


def _version(field: str, text: str) -> tuple[int, int]:
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InvalidField(field, f"{text[:40]!r} is not a version like 1.0")
    return int(match[1]), int(match[2])
