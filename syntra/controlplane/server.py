"""The control plane as one object: the listener, the connections' tasks, and what they share.

One port speaks HTTP for operators and, at `/agent/ws`, WebSocket for agents.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from syntra.controlplane.agent_session import AgentSessions
from syntra.controlplane.api import Api, ApiParts
from syntra.controlplane.clock import Clock, utc_now
from syntra.controlplane.errors import StoreError
from syntra.controlplane.fleet import Fleet
from syntra.controlplane.http import HttpConnection, Upgrade
from syntra.controlplane.inbox import Inbox
from syntra.controlplane.settings import ControlPlaneSettings
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.tokens import bearer_token, read_or_create_operator_token, token_hash
from syntra.controlplane.waiters import Waiters
from syntra.controlplane.websocket import WebSocket, handshake
from syntra.utils.errors import AgentError

_log = logging.getLogger(__name__)

AGENT_PATH = "/agent/ws"


async def serve(settings: ControlPlaneSettings) -> None:
    """Run a control plane until cancelled; agents are then told that it goes away.

    Raises AgentError when it cannot start.
    """
    async with ControlPlane(settings) as plane:
        await plane.run()


class ControlPlane:
    """An async context manager: entered, it listens; left, every agent was closed with 1001 and nothing is left open.

    Enter and leave it in the same task. Leaving takes at most a little over the close deadline.
    """

    def __init__(self, settings: ControlPlaneSettings, *, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._waiters = Waiters()
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: dict[WebSocket, asyncio.Task[None]] = {}
        self._stopping = False

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as opened:
            operator_hash = _prepare_data_dir(settings)
            tls = _tls(settings)
            self.store = await opened.enter_async_context(
                StoreThread(settings.database_path, settings.limits, settings.timings.store)
            )
            fleet = Fleet(settings, self.store, self._waiters, self._clock)
            self._api = Api(
                ApiParts(
                    settings=settings,
                    store=self.store,
                    fleet=fleet,
                    waiters=self._waiters,
                    clock=self._clock,
                    operator_hash=operator_hash,
                )
            )
            self._sessions = AgentSessions(
                store=self.store,
                fleet=fleet,
                inbox=Inbox(self.store, fleet, self._waiters, settings.limits, self._clock),
                limits=settings.limits,
                timings=settings.timings,
                clock=self._clock,
            )
            await self._group.__aenter__()
            try:
                self._listener = await asyncio.start_server(
                    self._accept,
                    settings.host,
                    settings.port,
                    ssl=tls,
                    ssl_handshake_timeout=settings.timings.request_head if tls else None,
                    ssl_shutdown_timeout=settings.timings.close if tls else None,
                )
            except OSError as exc:
                await self._group.__aexit__(None, None, None)
                raise AgentError(
                    f"cannot listen on {settings.host} port {settings.port}: {exc.strerror or exc}; "
                    "choose another address or stop what uses it"
                ) from exc
            self._opened = opened.pop_all()
        _log.info("control plane listening", extra={"host": settings.host, "port": self.port, "tls": tls is not None})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._opened:
            try:
                await self._stop()
            finally:
                for task in self._tasks:
                    task.cancel()
                # Not given the body's exception: the group's own tasks end above, and it would wrap it.
                await self._group.__aexit__(None, None, None)
        _log.info("control plane stopped")

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def _stop(self) -> None:
        self._stopping = True
        self._listener.close()
        agents = set(self._sockets.values())
        for socket in self._sockets:
            socket.begin_close(1001, "the control plane is going away")
        for task in self._tasks - agents:
            task.cancel()
        if agents:
            await asyncio.wait(agents, timeout=self._settings.timings.close + 1.0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain function: given a coroutine, asyncio would start a task that nobody owns.
        # Up to the limit connections are served, up to twice the limit they are told why not.
        if self._stopping or len(self._tasks) >= 2 * self._settings.limits.connections:
            writer.transport.abort()
            return
        task = self._group.create_task(self._serve(reader, writer), name="controlplane connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = self._settings
        try:
            http = HttpConnection(reader, writer, self._api, AGENT_PATH, settings.limits, settings.timings)
            if len(self._tasks) > settings.limits.connections:
                await http.refuse(503, "TOO_MANY_CONNECTIONS", "too many connections; try again later")
                return
            upgrade = await http.serve()
            if upgrade is not None:
                await self._serve_agent(reader, writer, upgrade)
        except Exception:  # noqa: BLE001 - one connection's bug ends that connection, not the control plane
            _log.exception("connection failed")
        finally:
            await _close(writer, settings.timings.close)

    async def _serve_agent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upgrade: Upgrade) -> None:
        head = upgrade.head
        response = handshake(head.target, head.headers, head.method, head.version)
        writer.write(response.serialize())
        if response.status_code != 101:
            return
        socket = WebSocket(reader, writer, upgrade.buffered, self._settings.limits, self._settings.timings)
        task = asyncio.current_task()
        assert task is not None
        self._sockets[socket] = task
        try:
            # A bad token is answered after the upgrade, with a close code: what deployed control planes do.
            await self._sessions.serve(
                socket, await self._server_of(writer, bearer_token(head.header("authorization")))
            )
        except StoreError as exc:
            _log.error("agent refused", extra={"reason": str(exc)})
            socket.begin_close(4000, "the control plane cannot read its tokens now")
            await socket.finish()
        finally:
            del self._sockets[socket]

    async def _server_of(self, writer: asyncio.StreamWriter, token: str | None) -> str | None:
        if self._settings.client_ca is not None:
            channel: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
            if channel is None or not channel.getpeercert(binary_form=True):
                return None
        return await self.store.run(Store.server_of_token, token_hash(token)) if token is not None else None


async def _close(writer: asyncio.StreamWriter, deadline: float) -> None:
    """Flush and close; a peer that does not read what is left is cut off at the deadline."""
    writer.close()
    try:
        async with asyncio.timeout(deadline):
            await writer.wait_closed()
    except (TimeoutError, OSError):
        _log.debug("connection aborted")
    finally:
        writer.transport.abort()


def _prepare_data_dir(settings: ControlPlaneSettings) -> bytes:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise AgentError(f"cannot create the data directory {settings.data_dir}: {exc}; check the path") from exc
    return read_or_create_operator_token(settings.operator_token_path)


def _tls(settings: ControlPlaneSettings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        if settings.client_ca is not None:
            # Optional in the handshake, demanded of agents: operators come without one through the same port.
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(settings.client_ca)
    except (OSError, ssl.SSLError) as exc:
        raise AgentError(f"cannot load the TLS files: {exc}; check certificate, key and client CA") from exc
    return context
