"""A proxy between agent and engine that kills the agent at the N-th engine call, before or after it went through.

It understands just enough of HTTP/1.1 to see where a request ends; responses and hijacked streams pass as bytes. The
event stream and pings are passed but not counted: they belong to no operation.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

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
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection(SOCKET)
        gate = _Gate()
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
            engine_writer.close()

    async def _upward(self, reader: asyncio.StreamReader, engine: asyncio.StreamWriter, gate: _Gate) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                engine.write_eof()
                return
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            request_line = head.split(b"\r\n", 1)[0]
            target = request_line.split(b" ")[1]
            if not _UNCOUNTED.search(target):
                self._count(request_line.decode(), gate)
            engine.write(head + body)
            await engine.drain()
            if b"upgrade: tcp" in head.lower():
                while data := await reader.read(65536):
                    engine.write(data)
                    await engine.drain()
                engine.write_eof()
                return

    def _count(self, line: str, gate: _Gate) -> None:
        trap = self.trap
        if not trap.only.search(line):
            return
        trap.calls.append(line)
        if len(trap.calls) != trap.at:
            return
        trap.hit = True
        if trap.when is When.BEFORE:
            self._spring(line, trap)
            raise ConnectionResetError("the agent was killed before the call")
        gate.line, gate.trap = line, trap

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
    line: str = ""
    trap: Trap = field(default_factory=Trap)
