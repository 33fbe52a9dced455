"""The control plane: the listener, the tasks of its connections, and the objects that they share.

One port serves HTTP to operators and, at `/agent/ws`, WebSocket to agents.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, cast

from syntra.controlplane.agent_session import AgentSessions
from syntra.controlplane.api import Api, ApiParts
from syntra.controlplane.authority import Authority, utc
from syntra.controlplane.clock import Clock, utc_now
from syntra.controlplane.connections import Place, Places
from syntra.controlplane.enrolment import Enrolment
from syntra.controlplane.errors import StoreError
from syntra.controlplane.fleet import Fleet
from syntra.controlplane.http import HttpConnection, Upgrade
from syntra.controlplane.inbox import Inbox
from syntra.controlplane.settings import ControlPlaneSettings, Timings
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.telemetry.expiry import expire_regularly
from syntra.controlplane.telemetry.intake import TelemetryIntake
from syntra.controlplane.telemetry.reader import TelemetryReader
from syntra.controlplane.tokens import bearer_token, read_or_create_operator_token, token_hash
from syntra.controlplane.waiters import Waiters
from syntra.controlplane.websocket import WebSocket, handshake
from syntra.utils.errors import AgentError

_log = logging.getLogger(__name__)

AGENT_PATH = "/agent/ws"


async def serve(settings: ControlPlaneSettings) -> None:
    """Run a control plane until it is cancelled. Raises AgentError when it cannot start."""
    async with ControlPlane(settings) as plane:
        await plane.run()


class ControlPlane:
    """An async context manager: it listens after `__aenter__`, and has closed every agent (1001) after `__aexit__`.

    Enter and leave it in the same task. Leaving takes little more than the close deadline.
    """

    def __init__(self, settings: ControlPlaneSettings, *, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._waiters = Waiters()
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = Places(settings.limits)
        self._sockets: dict[WebSocket, asyncio.Task[None]] = {}
        self._stopping = False
        self._enrolment: Enrolment | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as opened:
            operator_hash = _prepare_data_dir(settings)
            authority = _authority(settings, self._clock)
            self._tls = _tls(settings, authority)
            self.store = await opened.enter_async_context(
                StoreThread(settings.database_path, settings.limits, settings.timings.store)
            )
            if authority is not None:
                self._enrolment = Enrolment(authority, self.store, settings.certificate_secs, self._clock)
            fleet = Fleet(settings, self.store, self._waiters, self._clock)
            self._api = Api(
                ApiParts(
                    settings=settings,
                    store=self.store,
                    fleet=fleet,
                    waiters=self._waiters,
                    clock=self._clock,
                    telemetry=TelemetryReader(self.store, settings.limits),
                    operator_hash=operator_hash,
                )
            )
            telemetry = TelemetryIntake(self.store, settings.limits, self._clock)
            self._sessions = AgentSessions(
                store=self.store,
                fleet=fleet,
                inbox=Inbox(self.store, fleet, telemetry, self._waiters, settings.limits, self._clock, self._enrolment),
                telemetry=telemetry,
                limits=settings.limits,
                timings=settings.timings,
                clock=self._clock,
                enrolment=self._enrolment,
            )
            await self._group.__aenter__()
            try:
                # Without TLS: asyncio would not report a client before its handshake, so it could not be displaced.
                self._listener = await asyncio.start_server(self._accept, settings.host, settings.port)
            except OSError as exc:
                await self._group.__aexit__(None, None, None)
                raise AgentError(
                    f"cannot listen on {settings.host} port {settings.port}: {exc.strerror or exc}; "
                    "choose another address or stop what uses it"
                ) from exc
            expiry = expire_regularly(self.store, settings.limits.telemetry_days, self._clock)
            self._tasks.add(self._group.create_task(expiry, name="controlplane expiry"))
            self._opened = opened.pop_all()
        _log.info(
            "control plane listening", extra={"host": settings.host, "port": self.port, "tls": self._tls is not None}
        )
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
                # Without the body's exception, which the group would wrap; its own tasks are cancelled above.
                await self._group.__aexit__(None, None, None)
        _log.info("control plane stopped")

    @property
    def port(self) -> int:
        """The port of the listener."""
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
        # Not a coroutine function: asyncio would start a task for it outside of the group.
        if self._stopping:
            writer.transport.abort()
            return
        if self._tls is not None:
            # Bytes that are read before `start_tls` would be missing in the handshake.
            cast(asyncio.ReadTransport, writer.transport).pause_reading()
        task = self._group.create_task(self._serve(reader, writer), name="controlplane connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = self._settings
        # The writer below TLS. It must live until the end: it closes its transport when it is garbage-collected.
        plain = writer
        place = self._places.enter(plain.transport.abort)
        try:
            if self._tls is not None:
                reader, writer = await _over_tls(plain.transport, self._tls, settings.timings)
            http = HttpConnection(reader, writer, self._api, AGENT_PATH, place, settings.limits, settings.timings)
            upgrade = await http.serve()
            if upgrade is not None:
                await self._serve_agent(reader, writer, http, upgrade, place)
        except _NoTls as exc:
            _log.debug("TLS handshake failed", extra={"reason": str(exc)[:200]})
        except Exception:  # noqa: BLE001 - a bug in one connection must not end the control plane
            _log.exception("connection failed")
        finally:
            try:
                await _close(writer, settings.timings.close)
            finally:
                place.leave()

    async def _serve_agent(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        http: HttpConnection,
        upgrade: Upgrade,
        place: Place,
    ) -> None:
        head = upgrade.head
        try:
            # Before the upgrade, so that an agent with a token is authenticated as early as possible.
            channel: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
            server_id = await self._server_of(channel, bearer_token(head.header("authorization")))
            enrolment, presented, refusal = self._enrolment, None, None
            if server_id is not None and enrolment is not None:
                presented = enrolment.presented(channel)
                refusal = await enrolment.refusal(server_id, presented)
        except StoreError as exc:
            _log.error("agent refused", extra={"reason": str(exc)})
            await http.refuse(503, exc.code, "the control plane cannot read its tokens; try again later")
            return
        if server_id is not None and not place.claim(server_id):
            _log.warning("agent refused", extra={"server_id": server_id, "reason": "too many connections"})
            await http.refuse(503, "TOO_MANY_CONNECTIONS", "too many connections; try again later")
            return
        response = handshake(head.target, head.headers, head.method, head.version)
        writer.write(response.serialize())
        if response.status_code != 101:
            return
        limits = self._settings.limits
        # Without a valid token the client only gets its close code; what it sends meanwhile must not need much memory.
        max_bytes = limits.message_bytes if server_id is not None and refusal is None else limits.hello_bytes
        socket = WebSocket(reader, writer, upgrade.buffered, max_bytes, self._settings.timings)
        task = asyncio.current_task()
        assert task is not None
        self._sockets[socket] = task
        try:
            # A bad token gets a close code after the upgrade, as from deployed control planes.
            await self._sessions.serve(socket, server_id, refusal, presented)
        finally:
            del self._sockets[socket]

    async def _server_of(self, channel: ssl.SSLObject | None, token: str | None) -> str | None:
        must_present = self._settings.client_ca is not None
        if must_present and (channel is None or not channel.getpeercert(binary_form=True)):
            return None
        return await self.store.run(Store.server_of_token, token_hash(token)) if token is not None else None


class _NoTls(Exception):
    """The TLS handshake failed, or the client was displaced in the middle of it."""


async def _over_tls(
    transport: asyncio.WriteTransport, context: ssl.SSLContext, timings: Timings
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    # `StreamWriter.start_tls` loses a connection that ends during the handshake, and its reader would not hold back
    # the client.
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    try:
        secure = await loop.start_tls(
            transport,
            protocol,
            context,
            server_side=True,
            ssl_handshake_timeout=timings.request_head,
            ssl_shutdown_timeout=timings.close,
        )
    except OSError as exc:
        raise _NoTls(str(exc)) from exc
    if secure is None:
        raise _NoTls("the connection was lost")
    protocol.connection_made(secure)
    return reader, asyncio.StreamWriter(secure, protocol, reader, loop)


async def _close(writer: asyncio.StreamWriter, deadline: float) -> None:
    """Flush and close. At the deadline, drop what the peer has not read."""
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
        raise AgentError(
            f"cannot create the data directory {settings.data_dir}: {exc.strerror or exc}; check --data-dir"
        ) from exc
    return read_or_create_operator_token(settings.operator_token_path)


def _authority(settings: ControlPlaneSettings, clock: Clock) -> Authority | None:
    return Authority.open_or_create(settings.authority_path, utc(clock())) if settings.enrol else None


def _tls(settings: ControlPlaneSettings, authority: Authority | None) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        if settings.client_ca is not None or authority is not None:
            # Optional in the handshake: operators use the same port without one. Agents are checked later.
            context.verify_mode = ssl.CERT_OPTIONAL
        if authority is not None:
            context.load_verify_locations(cadata=authority.root_pem)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
    except (OSError, ssl.SSLError) as exc:
        raise AgentError(f"cannot load the TLS files: {exc}; check certificate, key and client CA") from exc
    return context
