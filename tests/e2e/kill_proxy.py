"""A proxy between agent and engine that kills the agent at the N-th engine call, before or after it went through.

It understands just enough of HTTP/1.1 to see where a request ends; responses and hijacked streams pass as bytes. The
event stream and pings are passed but not counted: they belong to no operation.

It may also stand in front of the routing proxy's API, and see the file of routes being replaced: both count as calls.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.e2e.inotify import Inotify
from tests.engine import SOCKET

_UNCOUNTED = re.compile(rb"(/events|/_ping|/info)(\?|$)")
_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)


class When(Enum):
    """On which side of the engine's doing the agent dies."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class Trap:
    """Kill `pid()` at counted call number `at`; `at` 0 only counts. Calls that `only` does not match do not count."""

    at: int = 0
    only: re.Pattern[str] = re.compile("")
    when: When = When.BEFORE
    pid: Callable[[], int] = field(default=lambda: 0)
    calls: list[str] = field(default_factory=list)
    # The call has come; the kill has happened or will, once the engine has answered.
    hit: bool = False
    sprung: str = ""


class KillProxy:
    """Listens on `path` in a thread of its own; use as a context manager and set `trap` between operations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kill proxy", daemon=True)
        self._ready = threading.Event()
        self._api: asyncio.Server | None = None
        self._files: Inotify | None = None
        self.trap = Trap()

    def __enter__(self) -> KillProxy:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_unix_server(self._connected, self._path))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        if self._api is not None:
            self._api.close()
        if self._files is not None:
            self._loop.remove_reader(self._files.fd)
            self._files.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0.1))  # the transports close
        self._loop.close()

    def in_front_of_api(self, port: int) -> int:
        """A port of loopback behind which the routing proxy's API at `port` is; its requests are counted."""

        return self._in_front("127.0.0.1", port, None, lambda: _Gate(prefix="proxy: "))

    def in_front_of_cluster(self, host: str, port: int, token: str) -> int:
        """A port of loopback behind which the API server of a cluster is, for a user with this token."""
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        header = f"Authorization: Bearer {token}\r\n".encode()
        return self._in_front(host, port, tls, lambda: _Gate(header=header))

    def _in_front(self, host: str, port: int, tls: ssl.SSLContext | None, gate: Callable[[], _Gate]) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                upstream = await asyncio.open_connection(host, port, ssl=tls)
            except OSError:
                writer.close()
                return
            await self._relay(reader, writer, *upstream, gate())

        async def listen() -> int:
            self._api = await asyncio.start_server(connected, "127.0.0.1", 0)
            return int(self._api.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result(5)

    def beside_file(self, path: Path, staging: Path) -> None:
        """Count each replacement of `path` by a file that is made in `staging`: it begins there and ends with a rename.

        The kernel tells it a moment later, so "before" is while it is written and "after" is just after the rename.
        """

        async def watch() -> None:
            self._files = Inotify()
            self._files.add(staging, Inotify.CREATED)
            self._files.add(path.parent, Inotify.MOVED_IN)
            gate = _Gate(prefix="proxy: ")

            def look() -> None:
                assert self._files is not None
                for kind, name in self._files.read():
                    if kind == Inotify.CREATED:
                        self._count(f"write {path.name}", gate)
                    elif name == path.name and gate.line:
                        self._spring(gate.line, gate.trap)
                        gate.line = ""

            self._loop.add_reader(self._files.fd, look)

        asyncio.run_coroutine_threadsafe(watch(), self._loop).result(5)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._relay(reader, writer, *await asyncio.open_unix_connection(SOCKET), _Gate())

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        engine_reader: asyncio.StreamReader,
        engine_writer: asyncio.StreamWriter,
        gate: _Gate,
    ) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                up = group.create_task(self._upward(reader, engine_writer, gate))
                down = group.create_task(self._downward(engine_reader, writer, gate))
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                if up.done() and not down.done():
                    await asyncio.wait({down}, timeout=0.2)
                up.cancel()
                down.cancel()
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            # Over TLS, a transport that is closed waits for the peer's goodbye.
            engine_writer.transport.abort()

    async def _upward(self, reader: asyncio.StreamReader, engine: asyncio.StreamWriter, gate: _Gate) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                if engine.can_write_eof():
                    engine.write_eof()
                return
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            request_line = head.split(b"\r\n", 1)[0]
            target = request_line.split(b" ")[1]
            await self._before(request_line.decode())
            if not _UNCOUNTED.search(target) and self._count(request_line.decode(), gate):
                raise ConnectionResetError("the agent was killed before the call")
            engine.write(head[:-2] + gate.header + head[-2:] + body)
            await engine.drain()
            if b"upgrade: tcp" in head.lower():
                while data := await reader.read(65536):
                    engine.write(data)
                    await engine.drain()
                engine.write_eof()
                return

    async def _before(self, line: str) -> None:
        """A call has come and has not gone on to the engine; subclasses may hold it."""

    def _count(self, line: str, gate: _Gate) -> bool:
        """Whether the agent was killed for it."""
        trap, line = self.trap, gate.prefix + line
        if not trap.only.search(line):
            return False
        trap.calls.append(line)
        if len(trap.calls) != trap.at:
            return False
        trap.hit = True
        if trap.when is When.BEFORE:
            self._spring(line, trap)
            return True
        gate.line, gate.trap = line, trap
        return False

    async def _downward(self, engine: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: _Gate) -> None:
        while data := await engine.read(65536):
            if gate.line:
                # The engine has answered, so the call went through; the agent never learns of it.
                self._spring(gate.line, gate.trap)
                return
            writer.write(data)
            await writer.drain()

    def _spring(self, line: str, trap: Trap) -> None:
        trap.sprung = line
        os.kill(trap.pid(), signal.SIGKILL)


@dataclass(slots=True)
class _Gate:
    prefix: str = ""
    header: bytes = b""
    line: str = ""
    trap: Trap = field(default_factory=Trap)
