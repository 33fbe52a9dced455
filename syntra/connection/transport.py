"""Performs the effects of the session: runs the connection's tasks from the first dial to the last close.

One task owns the connection: it dials, talks, closes, waits, and dials again. It closes the old socket, or aborts it
after the close timeout, before it dials again. While a connection is open, six tasks run: reader, writer, confirmation,
timer, heartbeat and outbox watch. Messages for the router pass through one bounded queue that outlives connections: a
received command is delivered even if its connection has broken.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from syntra.connection.codec import Envelope, encode
from syntra.connection.effects import (
    Abort,
    Acknowledged,
    Close,
    Deliver,
    Dial,
    Effect,
    Ignored,
    Lost,
    Ready,
    RequestHeartbeat,
    Send,
    SendKind,
)
from syntra.connection.errors import NotConnected, TlsFileError
from syntra.connection.inbox import Inbox
from syntra.connection.messages import BINARY_TELEMETRY, HelloAck, TelemetryAck
from syntra.connection.providers import Provider, gather
from syntra.connection.retry import Backoff, DialFailure, FailureKind
from syntra.connection.session import STOP_REASON, Session, State
from syntra.connection.settings import ConnectionSettings, TlsSettings
from syntra.connection.status import ConnectionStatus, describe
from syntra.connection.tls import TlsFiles
from syntra.connection.websocket import Socket, SocketEnded, dial
from syntra.connection.writer import Outbox, OutboxItem, Writer
from syntra.utils.timestamps import format_secs

__all__ = ["ConnectionSettings", "ConnectionStatus", "Outbox", "OutboxItem", "Provider", "TlsSettings", "Transport"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

NORMAL_CLOSE = (1000, "")


class Transport:
    """Keeps the agent connected. Call `run` once.

    `deliver` gets every message that the connection does not handle itself, in order; it should start long work in
    other tasks. The other callables must not block. `on_telemetry_ack` gets the control plane's answers to batches of
    telemetry. `on_ready` and `on_lost` alternate. `on_failure` tells that a dial failed or a connection ended; it
    returns whether to dial again at once.
    """

    def __init__(
        self,
        *,
        settings: ConnectionSettings,
        hello: Provider,
        heartbeat: Provider,
        deliver: Callable[[Envelope], Awaitable[None]],
        on_ready: Callable[[HelloAck], None],
        on_lost: Callable[[str], None],
        outbox: Outbox,
        on_telemetry_ack: Callable[[TelemetryAck], None] = lambda ack: None,
        translate: Callable[[str], Sequence[str]] = lambda text: (text,),
        tls: TlsFiles | None = None,
        on_failure: Callable[[DialFailure], bool] = lambda failure: False,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._timings = settings.timings
        self._hello = hello
        self._heartbeat = heartbeat
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._on_telemetry_ack = on_telemetry_ack
        self._clock = clock
        self._tls = tls or TlsFiles(settings.tls)
        self._on_failure = on_failure
        self._writer = Writer(
            outbox,
            max_frame_bytes=settings.max_frame_bytes,
            stream_limit=settings.stream_queue,
            translate=translate,
        )
        self._session = Session(
            backoff=Backoff(
                uniform=(rng or random.SystemRandom()).uniform, max_delay_secs=settings.reconnect_max_delay_secs
            ),
            new_id=lambda: str(uuid.uuid4()),
            timestamp=lambda: format_secs(time.time()),
            heartbeat_interval_secs=settings.heartbeat_interval_secs,
            timings=settings.timings,
            max_frame_bytes=settings.max_frame_bytes,
            now=clock(),
        )
        self._inbox = Inbox(deliver)
        self._running = False
        self._finished = asyncio.Event()
        self._wake = asyncio.Event()  # deadlines may have changed
        self._over = asyncio.Event()  # this dial or connection must end
        self._heartbeat_wanted = asyncio.Event()
        self._dial_due = False
        self._socket: Socket | None = None
        self._close_args = NORMAL_CLOSE
        self._ended: tuple[int, str] | None = None
        self._last_sentence = ""

    @property
    def status(self) -> ConnectionStatus:
        """Take a snapshot."""
        return describe(self._session, endpoint=self._settings.endpoint, now=self._clock(), clean=self._without_token)

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two heartbeats; a heartbeat that takes longer to gather is not sent."""
        return self._session.interval

    async def run(self) -> None:
        """Stay connected until cancelled or stopped. The socket is closed when this returns or raises.

        Raises the errors of the injected callables, in an ExceptionGroup. Nothing that the peer does makes it raise.
        """
        if not self._settings.secure and not self._settings.loopback:
            _log.warning(
                "the token travels unencrypted: the endpoint is ws://", extra={"endpoint": self._settings.endpoint}
            )
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                works = (("connection.deliver", self._inbox.run()), ("connection.files", self._watch_files()))
                helpers = [group.create_task(work, name=name) for name, work in works]
                await self._stay_connected()
                for helper in helpers:
                    helper.cancel()
        finally:
            self._running = False
            self._finished.set()

    async def stop(self, deadline_secs: float | None = None) -> None:
        """Close with 1000 and let `run` return; after the deadline (default: the close timeout) abort the socket.

        Do not await it from an injected callable: `run` waits for those.
        """
        self._perform(self._session.shutdown(self._clock()))
        self._wake.set()
        if not self._running:
            return
        try:
            async with asyncio.timeout(self._timings.close_timeout_secs if deadline_secs is None else deadline_secs):
                await self._finished.wait()
        except TimeoutError:
            self._perform([Abort(reason=STOP_REASON)])

    async def send_stream(self, envelope: Envelope) -> None:
        """Send telemetry or log lines. Returns when the socket has the frame; see `Writer.stream`.

        Raises NotConnected when not READY or when the connection breaks, UnencodableMessage when JSON or one frame
        cannot hold the message.
        """
        await self._writer.stream(encode(envelope))

    async def send_stream_binary(self, data: bytes) -> None:
        """As `send_stream`, for an encoded TelemetryFrame. A heartbeat behind one of 1 MiB waits for 10 s at 1 Mbit/s.

        Raises NotConnected as well when the control plane did not name `binary_telemetry` in its hello_ack.
        """
        await self._writer.stream(data)

    def redial(self, reason: str) -> None:
        """Close the connection if it is READY, and dial a new one."""
        self._perform(self._session.redial(reason, self._clock()))

    async def _stay_connected(self) -> None:
        self._perform(self._session.dial(self._clock()))
        while not (self._session.stopping and self._session.state is State.DISCONNECTED):
            if self._dial_due:
                self._dial_due = False
                await self._connect_once()
                continue
            await self._pause()
            self._perform(self._session.tick(self._clock()))

    async def _connect_once(self) -> None:
        """Dial, run the connection, close. The session is DISCONNECTED afterwards, whatever happens."""
        self._close_args, self._ended = NORMAL_CLOSE, None
        self._writer.begin()
        failure: DialFailure | None = None
        try:
            outcome = await self._dial_unless_over()
            if isinstance(outcome, DialFailure):
                failure = outcome
            else:
                self._perform(self._session.opened(outcome, self._clock()))
                await self._run_connection()
        except asyncio.CancelledError:
            self._perform(self._session.shutdown(self._clock()))
            raise
        finally:
            await self._finish(failure)

    async def _finish(self, failure: DialFailure | None) -> None:
        socket = self._socket
        if socket is None:
            failure = failure or DialFailure(kind=FailureKind.LOCAL, detail="the dial was overtaken")
            effects = self._session.dial_failed(failure, self._clock())
        else:
            ended = await socket.close(*self._close_args)
            self._socket = None
            ended = self._ended or ended
            await self._writer.closed(ended[0])
            effects = self._session.closed(*ended, self._clock())
        self._perform(effects)
        if self._session.failure is not None and self._on_failure(self._session.failure):
            self._perform(self._session.dial(self._clock()))
        self._writer.end("the connection is over")
        self._over.clear()
        self._report_failure()

    async def _dial_unless_over(self) -> Mapping[str, Any] | DialFailure:
        """Dial; return the hello payload for the open socket, or the failure. A shutdown cancels the dial."""
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(self._dial(), name="connection.dial")
            overtaken = group.create_task(self._over.wait(), name="connection.overtaken")
            try:
                await asyncio.wait({dialling, overtaken}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                dialling.cancel()
                overtaken.cancel()
        if dialling.cancelled():
            return DialFailure(kind=FailureKind.LOCAL, detail="the dial was overtaken")
        return dialling.result()

    async def _dial(self) -> Mapping[str, Any] | DialFailure:
        # Collected before dialling: the control plane gives a new connection 30 s to send hello.
        hello = await gather(self._hello, self._timings.hello_timeout_secs)
        if hello is None:
            return DialFailure(kind=FailureKind.LOCAL, detail="the hello could not be gathered")
        try:
            context = await asyncio.to_thread(self._tls.context) if self._settings.secure else None
        except TlsFileError as exc:
            return DialFailure(kind=FailureKind.TLS, detail=str(exc))
        outcome = await dial(self._settings, context)
        if isinstance(outcome, DialFailure):
            return outcome
        # Stored at once: a cancellation before the caller stores it would leak an open socket.
        self._socket = outcome
        return hello

    async def _run_connection(self) -> None:
        socket = self._socket
        assert socket is not None, "cannot happen: the dial has just kept it"
        self._heartbeat_wanted.clear()
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(socket), name="connection.read")
            others = [
                group.create_task(self._until_broken(self._writer.run, socket.send), name="connection.write"),
                group.create_task(self._until_broken(self._writer.confirm, socket.probe), name="connection.confirm"),
                group.create_task(self._run_timer(), name="connection.time"),
                group.create_task(self._send_heartbeats(), name="connection.heartbeat"),
                group.create_task(self._writer.watch(), name="connection.outbox"),
            ]
            await self._over.wait()
            for task in others:
                task.cancel()
            await socket.close(*self._close_args)
            # Frames that arrived before the close are still read; the reader ends with the socket.
            await asyncio.wait({reader}, timeout=self._timings.close_timeout_secs)
            reader.cancel()

    # The tasks of one connection

    async def _read(self, socket: Socket) -> None:
        try:
            while True:
                frame = await socket.receive()
                for effect in self._session.received(frame, self._clock()):
                    if isinstance(effect, Deliver):
                        await self._inbox.put(effect.envelope)
                    else:
                        self._perform([effect])
        except SocketEnded as end:
            self._ended = (end.code, end.reason)
        finally:
            self._over.set()

    async def _until_broken(self, serve: Callable[[T], Awaitable[None]], use: T) -> None:
        try:
            await serve(use)
        except NotConnected as exc:
            # The reader reports the end of the connection, after it has read the remaining frames.
            _log.debug("writing ended", extra={"reason": str(exc)})

    async def _run_timer(self) -> None:
        while True:
            await self._pause()
            if self._inbox.full:
                self._session.peer_alive(self._clock())
            self._perform(self._session.tick(self._clock()))

    async def _send_heartbeats(self) -> None:
        while True:
            await self._heartbeat_wanted.wait()
            self._heartbeat_wanted.clear()
            payload = await gather(self._heartbeat, self._session.interval)
            self._perform(self._session.heartbeat_ready(payload, self._clock()))

    async def _watch_files(self) -> None:
        """Dial again when certificates were renewed, but never drop a connection for invalid files."""
        tls = self._settings.tls
        if not self._settings.secure or (tls.ca_path is None and tls.cert_path is None and tls.key_path is None):
            return
        renewed = False
        while True:
            await asyncio.sleep(self._timings.file_check_secs)
            renewed = await asyncio.to_thread(self._tls.renewed) or renewed
            if renewed and self._session.state in (State.READY, State.DISCONNECTED):
                renewed = False
                now = self._clock()
                self._perform(self._session.redial("the TLS files changed", now) or self._session.dial(now))

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self._wake.set()
            match effect:
                case Dial():
                    self._dial_due = True
                case Send(text=text, kind=SendKind.CONTROL):
                    self._writer.control(text)
                case Send(text=text):
                    self._writer.heartbeat(text)
                case Acknowledged(ack=answer):
                    self._on_telemetry_ack(answer)
                case Ready(ack=ack):
                    self._ready(ack)
                case Lost(reason=reason):
                    self._writer.end(reason)
                    self._on_lost(self._without_token(reason))
                case RequestHeartbeat():
                    self._heartbeat_wanted.set()
                    self._writer.check_outbox()  # a fallback, in case the outbox's notification was missed
                case Close(code=code, reason=reason):
                    self._close_args = (code, reason)
                    self._over.set()
                case Abort():
                    if self._socket is not None:
                        self._socket.abort()
                    self._over.set()
                case Ignored(reason=reason, malformed=malformed):
                    level = logging.WARNING if malformed else logging.INFO
                    _log.log(level, "ignored a frame", extra={"reason": self._without_token(reason)})
                case Deliver():
                    raise AssertionError("cannot happen: only the reader is told to deliver, and does it itself")

    def _ready(self, ack: HelloAck) -> None:
        self._last_sentence = ""
        self._writer.ready(takes_binary=BINARY_TELEMETRY in ack.features)
        extra = {"server_name": ack.server_name, "pending_deployments": len(ack.pending_deployments)}
        _log.info("connected to the control plane", extra=extra)
        self._on_ready(ack)

    async def _pause(self) -> None:
        """Wait until the session's next deadline, or until something changes."""
        now = self._clock()
        deadline = self._session.next_deadline(now)
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - now)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _report_failure(self) -> None:
        verdict = self._session.verdict
        if verdict is None or self._session.stopping:
            return
        sentence = self._without_token(verdict.sentence)
        level = logging.ERROR if verdict.loud else logging.WARNING
        # A repeated sentence is not logged as a warning again.
        level = logging.INFO if sentence == self._last_sentence and not verdict.loud else level
        self._last_sentence = sentence
        extra = {"reason": sentence, "attempts": self._session.failures, "next_secs": self.status.next_attempt_secs}
        _log.log(level, "not connected to the control plane", extra=extra)

    def _without_token(self, text: str) -> str:
        # The peer may quote the token.
        return text.replace(self._settings.token, "[token]")
