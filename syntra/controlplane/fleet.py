"""The connected agents: one link per server; commands are sent at most once; answers are matched by request id."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from syntra.connection.codec import Envelope, encode
from syntra.controlplane.clock import Clock
from syntra.controlplane.errors import ServerNotConnected
from syntra.controlplane.fitting import fitted
from syntra.controlplane.records import Command, CommandState, JsonObject, QueuedDeploy
from syntra.controlplane.settings import ControlPlaneSettings
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.waiters import Waiters
from syntra.controlplane.websocket import NotSent, WebSocket, WebSocketClosed
from syntra.utils.frozen import frozen

_log = logging.getLogger(__name__)

DEPLOY = "deploy"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AgentLink:
    """One agent's connection after its hello. `gone` is set when its session has ended.

    `features` are the extensions of the contract that its hello offers and this control plane uses.
    """

    server_id: str
    connected_at: str
    socket: WebSocket
    features: frozenset[str] = frozenset()
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@frozen
class OutgoingCommand:
    """A command on its way to a server. The payload holds secrets."""

    request_id: str
    server_id: str
    type: str
    deployment_id: str | None
    service_id: str | None
    payload: JsonObject = field(repr=False)


@dataclass(slots=True)
class _Slot:
    """The link of one server.

    The lock serializes hellos and sends. So a deploy is either queued before the hello takes the queue, or sent to the
    new link.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    link: AgentLink | None = None


class Fleet:
    """The links of all servers, and the deadlines of sent commands. Used from the event loop only."""

    def __init__(self, settings: ControlPlaneSettings, store: StoreThread, waiters: Waiters, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._waiters = waiters
        self._clock = clock
        self._slots: dict[str, _Slot] = {}
        # The deadline of each sent command in loop time, oldest first. A command without an entry is overdue, as are
        # all commands that were sent before a restart.
        self._deadlines: dict[str, float] = {}

    def link(self, server_id: str) -> AgentLink | None:
        """The server's connection while it is usable."""
        slot = self._slots.get(server_id)
        return slot.link if slot and slot.link and slot.link.socket.is_open else None

    def connected(self) -> dict[str, str]:
        """The servers with a usable connection, and since when."""
        return {server_id: link.connected_at for server_id in self._slots if (link := self.link(server_id))}

    async def admit(self, link: AgentLink, server_name: str) -> None:
        """Make this the link of its server.

        Closes the older link first, then acknowledges the hello with the queued deploys; after that, commands are sent
        to the link. Raises WebSocketClosed and StoreError. `remove` undoes it.
        """
        slot = self._slots.setdefault(link.server_id, _Slot())
        async with slot.lock:
            if slot.link is not None:
                await self._supersede(slot.link)
            queued = await self._take_queued(link)
            ack = self.hello_ack(
                link.server_id, server_name, accepted=True, pending=queued, features=sorted(link.features)
            )
            await self._write(link, ack, queued)
            slot.link = link
            # The deploys that did not fit into the frame of the acknowledgement.
            while more := await self._take_queued(link):
                for deploy in more:
                    envelope = self._envelope(deploy.request_id, DEPLOY, json.loads(deploy.payload))
                    await self._write(link, envelope, [deploy])

    def remove(self, link: AgentLink) -> None:
        """Remove the link. A newer link of the same server stays."""
        slot = self._slots.get(link.server_id)
        if slot is not None and slot.link is link:
            slot.link = None
        link.gone.set()

    async def send(self, command: OutgoingCommand) -> CommandState:
        """Record and send a command at most once, or queue it when it is a deploy for an absent server.

        A send that may have failed counts as sent and times out. Raises ServerNotConnected, Conflict, LimitReached and
        StoreError.
        """
        async with self._slots.setdefault(command.server_id, _Slot()).lock:
            link = self.link(command.server_id)
            if link is None and command.type != DEPLOY:
                raise _not_connected(command)
            payload = json.dumps(command.payload)
            await self._store.run(
                Store.add_command,
                request_id=command.request_id,
                server_id=command.server_id,
                type=command.type,
                deployment_id=command.deployment_id,
                service_id=command.service_id,
                queued_payload=payload if link is None else None,
                now=self._clock(),
            )
            if link is None:
                return CommandState.QUEUED
            self._start_deadline(command.request_id)
            try:
                await link.socket.send(encode(self._envelope(command.request_id, command.type, command.payload)))
            except NotSent as exc:
                # The link ended while the command was recorded, and certainly has not sent it.
                if command.type != DEPLOY:
                    await self._store.run(Store.forget_unsent, command.request_id)
                    raise _not_connected(command) from exc
                await self._store.run(Store.queue_unsent, command.request_id, payload)
                return CommandState.QUEUED
            except WebSocketClosed as exc:
                _log.warning("command may be lost", extra={"request_id": command.request_id, "reason": str(exc)})
            return CommandState.SENT

    async def answered(self, server_id: str, request_id: str, response: JsonObject) -> bool:
        """Store a response, even a late one, and wake its waiters. False when this server has no such command."""
        text = fitted(response, self._settings.limits.response_bytes)
        known = await self._store.run(Store.answer, server_id, request_id, text, self._clock())
        if known:
            self._deadlines.pop(request_id, None)
            self._waiters.notify(f"command {request_id}")
        return known

    def state_of(self, command: Command) -> CommandState:
        """The command's state, which is `timed_out` after the deadline."""
        if command.state is CommandState.SENT and self.seconds_left(command.request_id) <= 0:
            return CommandState.TIMED_OUT
        return command.state

    def seconds_left(self, request_id: str) -> float:
        """Seconds until the deadline of a sent command; 0 after it, or when the command was not sent."""
        deadline = self._deadlines.get(request_id)
        return 0.0 if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())

    def hello_ack(
        self,
        server_id: str,
        server_name: str,
        *,
        accepted: bool,
        pending: list[QueuedDeploy],
        features: Sequence[str] = (),
    ) -> Envelope:
        """The answer to a hello. Without features it is that of the contract 1.0."""
        payload: dict[str, object] = {
            "server_id": server_id,
            "accepted": accepted,
            "server_name": server_name,
            "org_id": self._settings.org_id,
            "config": {
                "heartbeat_interval_seconds": self._settings.heartbeat_interval_seconds,
                "telemetry_batch_interval_seconds": self._settings.telemetry_batch_interval_seconds,
                "telemetry_buffer_max_mb": 50,
                "log_level": self._settings.agent_log_level,
                **({"features": list(features)} if features else {}),
            },
            "pending_deployments": [json.loads(deploy.payload) for deploy in pending],
        }
        return self._envelope(str(uuid.uuid4()), "hello_ack", payload)

    async def pong(self, link: AgentLink, heartbeat_id: str) -> None:
        """Answer a heartbeat. Raises WebSocketClosed."""
        await link.socket.send(encode(self._envelope(heartbeat_id, "pong", {})))

    async def _supersede(self, old: AgentLink) -> None:
        old.socket.begin_close(4000, "superseded by a newer connection")
        try:
            # The socket ends within the close deadline; its session may still be storing one message.
            async with asyncio.timeout(self._settings.timings.close + self._settings.timings.store):
                await old.gone.wait()
        except TimeoutError:
            _log.warning("older connection did not end in time", extra={"server_id": old.server_id})

    async def _take_queued(self, link: AgentLink) -> list[QueuedDeploy]:
        return await self._store.run(Store.take_queued, link.server_id, self._settings.limits.command_bytes)

    async def _write(self, link: AgentLink, envelope: Envelope, deploys: list[QueuedDeploy]) -> None:
        for deploy in deploys:
            self._start_deadline(deploy.request_id)
        try:
            await link.socket.send(encode(envelope))
        except NotSent:
            for deploy in deploys:
                await self._store.run(Store.queue_unsent, deploy.request_id, deploy.payload)
            raise
        for deploy in deploys:
            _log.info("queued deploy delivered", extra={"server_id": link.server_id, "request_id": deploy.request_id})

    def _envelope(self, id: str, type: str, payload: JsonObject) -> Envelope:
        return Envelope(id=id, type=type, timestamp=self._clock(), payload=payload)

    def _start_deadline(self, request_id: str) -> None:
        now = asyncio.get_running_loop().time()
        while self._deadlines and (oldest := next(iter(self._deadlines))) and self._deadlines[oldest] <= now:
            del self._deadlines[oldest]
        self._deadlines[request_id] = now + self._settings.timings.command


def _not_connected(command: OutgoingCommand) -> ServerNotConnected:
    return ServerNotConnected(
        f"cannot send {command.type} to {command.server_id}: its agent is not connected; "
        "check `syntra-agent status` on the server"
    )
