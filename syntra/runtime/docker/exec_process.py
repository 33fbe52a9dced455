"""One command in a container (Engine API, "Exec"): create, start with its streams attached, end, exit code.

The engine has no call that ends a command, and closing its stream leaves it running. Where the engine's processes are
visible from here, as for root on its host, the command's processes are signalled instead.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from syntra.runtime.docker import fields, processes
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import DockerError
from syntra.runtime.docker.paths import path
from syntra.runtime.docker.streams import HijackedStream

TERM_SECS = 2.0
"""Time between SIGTERM and SIGKILL for a command that is ended."""
KILL_SECS = 2.0
"""How long to watch killed processes go."""
RESIZE_SECS = 15.0
"""The engine waits up to ten seconds for a command to start before it refuses to resize its terminal."""
_POLL_SECS = 0.01
_POLL_MAX_SECS = 0.1


class ExecProcess:
    """A command, from its creation to its end. `tty` gives it a terminal, `stdin` an input."""

    def __init__(self, client: EngineClient, container: str, *, tty: bool, stdin: bool) -> None:
        self._client = client
        self._container = container
        self._tty = tty
        self._stdin = stdin
        self._id = ""
        self._started = False
        self._has_ended = False

    async def create(self, argv: Sequence[str], env: Mapping[str, str], working_dir: str | None) -> None:
        """Register the command; Conflict when the container does not run or is paused."""
        body: dict[str, object] = {
            "AttachStdin": self._stdin,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": self._tty,
            "Cmd": list(argv),
            "Env": [f"{name}={value}" for name, value in env.items()],
        }
        if working_dir is not None:
            body["WorkingDir"] = working_dir
        response = await self._client.request("POST", path("containers", self._container, "exec"), body=body)
        self._id = fields.text(response.json(), "Id")

    @asynccontextmanager
    async def start(self) -> AsyncIterator[HijackedStream]:
        """Start it; the block has its streams. Leaving the block does not end it: see `end`."""
        self._started = True
        body = {"Detach": False, "Tty": self._tty}
        async with self._client.hijack("POST", path("exec", self._id, "start"), body=body) as stream:
            yield stream

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal; waits while it starts."""
        query = {"h": rows, "w": columns}
        await self._client.request("POST", path("exec", self._id, "resize"), query=query, deadline=RESIZE_SECS)

    async def wait_ended(self) -> int:
        """The exit code. Asked for until there is one: the engine notices the end after the output ends."""
        pause = _POLL_SECS
        while True:
            state = await self._inspect()
            if not fields.flag(state, "Running") and isinstance(state.get("ExitCode"), int):
                self._has_ended = True
                return fields.integer(state, "ExitCode")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _POLL_MAX_SECS)

    async def end(self) -> bool:
        """End the command's processes; whether they are gone. Raises nothing but CancelledError."""
        if not self._started or self._has_ended:
            return True
        try:
            async with asyncio.timeout(TERM_SECS + KILL_SECS):
                return await self._end()
        except (DockerError, TimeoutError):
            return False

    async def _end(self) -> bool:
        state = await self._inspect()
        pause = _POLL_SECS
        while not state.get("Pid") and state.get("ExitCode") is None:
            # Our start is still on its way through the engine: output may come before the process id is known.
            await asyncio.sleep(pause)
            pause = min(pause * 2, _POLL_MAX_SECS)
            state = await self._inspect()
        if not fields.flag(state, "Running"):
            return True
        pid, container_id = fields.integer(state, "Pid"), fields.text(state, "ContainerID")
        family = processes.find_family(pid, container_id)
        if not family:
            return False  # the engine's processes are not visible from here
        for number, seconds in ((signal.SIGTERM, TERM_SECS), (signal.SIGKILL, KILL_SECS)):
            signalled: frozenset[processes.Process] = frozenset()
            for _ in range(round(seconds / _POLL_MAX_SECS)):
                # Again each time: a shell may have started a process between the search and the signal.
                family |= processes.find_family(pid, container_id)
                if not processes.alive(family, container_id):
                    return True
                processes.send_signal(family - signalled, container_id, number)
                signalled |= family
                await asyncio.sleep(_POLL_MAX_SECS)
        return not processes.alive(family, container_id)

    async def _inspect(self) -> Mapping[str, object]:
        response = await self._client.request("GET", path("exec", self._id, "json"))
        return fields.mapping({"exec": response.json()}, "exec")
