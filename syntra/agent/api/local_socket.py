"""The local unix socket: the same messages and router as the control-plane connection, one JSON object per line.

Only root and the agent's own user may use it. The file's mode is 0600, and the peer's credentials are checked as well,
since the file's mode may be changed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from syntra.agent.api.router import Router
from syntra.agent.messages import LOCAL, PeerGone, Reports, envelope, refusal
from syntra.model.command_payload import request_id_of
from syntra.model.errors import RequestError
from syntra.model.fields import Json
from syntra.model.status import Failure
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_CONNECTIONS = 64
# The buffer for a client that reads slowly. Answers and streams wait for space; statuses do not wait, so a client that
# does not read them is disconnected.
QUEUE_BYTES = 1024 * 1024
QUEUE_MESSAGES = 1000
SEND_SECS = 30.0
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
            if (refused := _refusal(writer, len(self._connections))) is not None:
                await _refuse(writer, refused)
                return
            connection = _Connection(reader, writer, self._router, self._reports)
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
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, router: Router, reports: Reports
    ) -> None:
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

    async def respond(self, payload: Mapping[str, Json]) -> None:
        await self.stream("command_response", payload)

    async def stream(self, kind: str, payload: Mapping[str, Json]) -> None:
        await self._outgoing.put(envelope(kind, payload))

    def _notify(self, kind: str, payload: Mapping[str, Json]) -> None:
        if not self._outgoing.offer(envelope(kind, payload)):
            log.warning("local client reads too slowly; connection closed")
            self._writer.transport.abort()

    async def _read(self) -> None:
        while True:
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

    async def _handle(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            kind, message_id, payload = message["type"], message["id"], message.get("payload") or {}
            if not (isinstance(kind, str) and isinstance(message_id, str) and isinstance(payload, dict)):
                raise TypeError("wrong types")
            request_id = request_id_of(message_id, payload)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RequestError):
            failure = Failure(code="MALFORMED", message="not an envelope: {id, type, payload} on one line")
            await self.respond(refusal("", failure))
            return
        if request_id not in self._subscriptions:
            self._subscriptions[request_id] = self._reports.listen(request_id, self._notify)
        await self._router.handle(kind, message_id, payload, self)

    async def _write(self) -> None:
        while (text := await self._outgoing.take()) is not None:
            self._writer.write(text.encode() + b"\n")
            async with asyncio.timeout(SEND_SECS):
                await self._writer.drain()
        # This also ends the reader's wait.
        self._writer.close()


class _Outgoing:
    """The queue of messages to one client."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._size = 0
        self._ended = False
        self._changed = asyncio.Event()

    async def put(self, text: str) -> None:
        """Add a message; waits while the queue holds QUEUE_BYTES. Raises PeerGone once the connection has ended."""
        while self._size >= QUEUE_BYTES and not self._ended:
            await self._changed.wait()
        if self._ended:
            raise PeerGone("the local client is gone")
        self._add(text)

    def offer(self, text: str) -> bool:
        """Add a message without waiting; False when the queue holds QUEUE_MESSAGES."""
        if not self._ended and len(self._texts) < QUEUE_MESSAGES:
            self._add(text)
            return True
        return self._ended

    def end(self) -> None:
        """Accept no more messages; queued ones can still be taken."""
        self._ended = True
        self._announce()

    async def take(self) -> str | None:
        """Wait for the next message; None after the last one."""
        while not self._texts:
            if self._ended:
                return None
            await self._changed.wait()
        text = self._texts.popleft()
        self._size -= len(text)
        self._announce()
        return text

    def _add(self, text: str) -> None:
        self._texts.append(text)
        self._size += len(text)
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _refusal(writer: asyncio.StreamWriter, connections: int) -> Failure | None:
    peer: socket.socket = writer.get_extra_info("socket")
    # struct ucred of unix(7): pid, uid, gid.
    _pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
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
