"""The local unix socket: the same messages and router as the control-plane connection, one JSON object per line.

A connection that is given to an exec carries frames (`model.exec_frames`) from its acceptance on, and nothing else.

Only root and the agent's own user may use it. The file's mode is 0600, and the peer's credentials are checked as well,
since the file's mode may be changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from syntra.agent.api.exec_session import ExecChannel, ExecInput
from syntra.agent.api.router import Router
from syntra.agent.messages import LOCAL, PeerGone, Reports, envelope, refusal
from syntra.connection.codec import MAX_FRAME_BYTES, decode
from syntra.connection.errors import MalformedFrame
from syntra.model.command_payload import request_id_of
from syntra.model.errors import RequestError
from syntra.model.exec_frames import BadFrame, ExecFrames
from syntra.model.fields import Json
from syntra.model.status import Failure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

MAX_LINE_BYTES = MAX_FRAME_BYTES
# Well above the execs and log streams that one user may have open: there is room left for questions.
MAX_CONNECTIONS = 256
# The buffer for a client that reads slowly. Answers and streams wait for space; statuses do not wait, so a client that
# does not read them is disconnected.
QUEUE_BYTES = 1024 * 1024
QUEUE_MESSAGES = 1000
SEND_SECS = 30.0
READ_BYTES = 256 * 1024
# How much output of an exec may wait in the transport, and how much of it in the kernel, for the client to take it.
AHEAD_BYTES = 256 * 1024
CLOSE_SECS = 5.0


class SocketInUse(AgentError):
    """Another process answers on the socket path."""


class LocalSocket:
    """Serves the socket between `open` and `close`."""

    def __init__(self, path: Path, router: Router, reports: Reports) -> None:
        self._path = path
        self._router = router
        self._reports = reports
        self._server: asyncio.Server | None = None
        # The task of each connection, and the function that ends the connection.
        self._connections: dict[asyncio.Task[object], Callable[[], None]] = {}

    async def open(self) -> None:
        """Bind the socket. Raises SocketInUse or AgentError."""
        await self._remove_stale_socket()
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path, limit=MAX_LINE_BYTES)
        except OSError as refused:
            raise AgentError(
                f"cannot listen on {self._path}: {refused.strerror}; set `socket` to another path"
            ) from refused
        finally:
            os.umask(old)

    def stop_accepting(self) -> None:
        """Accept no new clients; connected ones still receive the rest of their answers."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Send each connection its queued messages, then close it."""
        self.stop_accepting()
        # End connections, do not cancel them: asyncio 3.11 logs a cancelled connection as an error.
        for end in list(self._connections.values()):
            end()
        if self._connections:
            await asyncio.wait(set(self._connections), timeout=CLOSE_SECS)
        for task in self._connections:
            task.cancel()

    async def _remove_stale_socket(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as refused:
            raise AgentError(
                f"cannot make {self._path.parent}: {refused.strerror}; set `socket` to another path"
            ) from refused
        if not self._path.is_socket():
            return
        try:
            async with asyncio.timeout(CLOSE_SECS):
                _, writer = await asyncio.open_unix_connection(self._path)
        except (ConnectionRefusedError, FileNotFoundError):
            self._path.unlink(missing_ok=True)
            return
        except (OSError, TimeoutError) as busy:
            # With a full backlog or a missing permission, another process may still listen.
            raise SocketInUse(
                f"cannot listen on {self._path}: something holds it ({busy or 'no answer'}); stop it or set `socket`"
            ) from busy
        writer.close()
        raise SocketInUse(f"cannot listen on {self._path}: another agent answers there; stop it or set `socket`")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "cannot happen inside a coroutine"
        self._connections[task] = writer.close
        try:
            uid = _uid_of(writer)
            if (refused := _refusal(uid, len(self._connections))) is not None:
                await _refuse(writer, refused)
                return
            connection = _Connection(reader, writer, self._router, self._reports, uid)
            self._connections[task] = connection.end
            await connection.run()
        except (ConnectionError, TimeoutError, PeerGone) as ended:
            log.debug("local connection ended", extra={"reason": str(ended)})
        finally:
            del self._connections[task]
            writer.close()


class _Connection:
    """One client, a peer of the router. Only its writer task writes to the socket."""

    origin = LOCAL

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, router: Router, reports: Reports, uid: int
    ) -> None:
        self.share = f"uid {uid}"
        self._channel: _Channel | None = None
        self._reader = reader
        self._writer = writer
        self._router = router
        self._reports = reports
        self._outgoing = _Outgoing()
        self._subscriptions: dict[str, Callable[[], None]] = {}

    async def run(self) -> None:
        """Serve until the client closes."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(), name="local socket writer")
                await self._read()
                # Send what is queued: a client that only closed its sending side still receives it.
                self._outgoing.end()
        except* (ConnectionError, TimeoutError, PeerGone) as ended:
            log.debug("local connection ended", extra={"reason": str(ended.exceptions[0])})
        finally:
            self._outgoing.end()
            self._router.forget(self)
            for end in self._subscriptions.values():
                end()

    def end(self) -> None:
        """Send the queued messages, then close."""
        self._outgoing.end()

    def attach(self) -> ExecChannel:
        """Give the connection to an exec."""
        if len(self._subscriptions) > 1:
            raise RequestError("INVALID_PAYLOAD", "stream: use a connection that carries nothing else")
        # Frames of output come one after the other: the writer need not wait until each has left.
        self._writer.transport.set_write_buffer_limits(high=AHEAD_BYTES)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, AHEAD_BYTES)
        self._channel = _Channel(self._outgoing)
        return self._channel

    async def respond(self, payload: Mapping[str, Json]) -> None:
        await self.stream("command_response", payload)

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None:
        await self._outgoing.put(_line(kind, payload))

    def _notify(self, kind: str, payload: Mapping[str, Json]) -> None:
        if not self._outgoing.offer(_line(kind, payload)):
            log.warning("local client reads too slowly; connection closed")
            self._writer.transport.abort()

    async def _read(self) -> None:
        while self._channel is None:
            try:
                line = await self._reader.readline()
            except ValueError:
                await self.respond(refusal("", Failure(code="TOO_LARGE", message="the line is over 16 MiB")))
                return
            if not line:
                return
            if not line.endswith(b"\n"):
                raise ConnectionResetError("the client closed in the middle of a line")
            await self._handle(line)
        frames = ExecFrames()
        while data := await self._reader.read(READ_BYTES):
            try:
                for frame in frames.feed(data):
                    self._channel.input.feed(frame)
                if frames.error is not None:
                    raise frames.error
            except BadFrame as broken:
                log.warning("exec client broke the protocol", extra={"reason": str(broken)})
                raise ConnectionResetError(str(broken)) from broken
        # The end of its input is a frame, so this is the end of the client, and the command ends with it.
        raise ConnectionResetError("the exec client left")

    async def _handle(self, line: bytes) -> None:
        try:
            message = decode(line)
            request_id = request_id_of(message.id, message.payload)
        except (MalformedFrame, RequestError):
            failure = Failure(code="MALFORMED", message="not an envelope: {id, type, payload} on one line")
            await self.respond(refusal("", failure))
            return
        if request_id not in self._subscriptions:
            self._subscriptions[request_id] = self._reports.listen(request_id, self._notify)
        await self._router.handle(message.type, message.id, message.payload, self)

    async def _write(self) -> None:
        while (data := await self._outgoing.take()) is not None:
            self._writer.write(data)
            # The output of an exec may be read by a person, or by a slow disk: it waits for as long as they are there.
            async with asyncio.timeout(SEND_SECS if self._channel is None else None):
                await self._writer.drain()
        # This also ends the reader's wait.
        self._writer.close()


class _Outgoing:
    """The queue of messages to one client."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._changed = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Add a message; waits while the queue holds QUEUE_BYTES. Raises PeerGone once the connection has ended."""
        while self._size >= QUEUE_BYTES and not self._ended:
            await self._changed.wait()
        if self._ended:
            raise PeerGone("the local client is gone")
        self._add(data)

    def offer(self, data: bytes) -> bool:
        """Add a message without waiting; False when the queue holds QUEUE_MESSAGES."""
        if not self._ended and len(self._items) < QUEUE_MESSAGES:
            self._add(data)
            return True
        return self._ended

    def end(self) -> None:
        """Accept no more messages; queued ones can still be taken."""
        self._ended = True
        self._announce()

    async def take(self) -> bytes | None:
        """Wait for the next message; None after the last one."""
        while not self._items:
            if self._ended:
                return None
            await self._changed.wait()
        data = self._items.popleft()
        self._size -= len(data)
        self._announce()
        return data

    def _add(self, data: bytes) -> None:
        self._items.append(data)
        self._size += len(data)
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _Channel:
    """The connection as an exec sees it."""

    def __init__(self, outgoing: _Outgoing) -> None:
        self.input = ExecInput()
        self._outgoing = outgoing

    async def accept(self, payload: Mapping[str, Json]) -> None:
        await self._outgoing.put(_line("command_response", payload))

    async def send(self, frames: bytes) -> None:
        await self._outgoing.put(frames)

    def close(self) -> None:
        self._outgoing.end()


def _line(kind: str, payload: Mapping[str, Json]) -> bytes:
    return envelope(kind, payload).encode() + b"\n"


def _uid_of(writer: asyncio.StreamWriter) -> int:
    peer: socket.socket = writer.get_extra_info("socket")
    # struct ucred of unix(7): pid, uid, gid.
    _pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def _refusal(uid: int, connections: int) -> Failure | None:
    if uid in (0, os.geteuid()):
        if connections <= MAX_CONNECTIONS:
            return None
        return Failure(code="BUSY", message=f"cannot serve: {MAX_CONNECTIONS} connections are open; try again later")
    log.warning("local client refused", extra={"uid": uid})
    message = f"cannot serve user {uid}: only root and the agent's user may; use sudo"
    return Failure(code="PERMISSION_DENIED", message=message)


async def _refuse(writer: asyncio.StreamWriter, failure: Failure) -> None:
    writer.write(envelope("command_response", refusal("", failure)).encode() + b"\n")
    async with asyncio.timeout(CLOSE_SECS):
        await writer.drain()
