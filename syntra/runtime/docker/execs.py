"""Commands inside containers (Engine API, "Exec"): run one to its end, with a deadline that also ends the command."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence

from syntra.runtime.docker import fields, processes
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import DockerError, ExecTimeout
from syntra.runtime.docker.frames import Frame, FrameType, demultiplexer
from syntra.runtime.docker.paths import path
from syntra.runtime.docker.records import ExecOutcome

TERM_SECS = 2.0
"""Time between SIGTERM and SIGKILL for a command that exceeded its deadline."""
KILL_SECS = 2.0
"""How long to wait until killed processes are gone."""
_POLL_SECS = 0.01
_POLL_MAX_SECS = 0.1


class Execs:
    """The exec calls of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    async def run(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        working_dir: str | None = None,
        deadline: float,
        output_limit: int,
        tty: bool = False,
    ) -> ExecOutcome:
        """Run a command; return its exit code and output. A missing binary gives exit code 126 or 127.

        `output_limit` is per stream, in bytes; further output is read and dropped. After `deadline` seconds, and when
        cancelled, it ends the command's processes, which takes up to four seconds more; ExecTimeout contains the output
        so far. Conflict when the container does not run or is paused.
        """
        run = _Run(self._client, container, output_limit=output_limit, tty=tty)
        try:
            async with asyncio.timeout(deadline):
                await run.create(argv, env or {}, working_dir)
                await run.read_output()
                exit_code = await run.wait_ended()
        except TimeoutError as exc:
            ended = await run.end()
            raise ExecTimeout(
                container,
                deadline,
                stdout=bytes(run.stdout),
                stderr=bytes(run.stderr),
                truncated=run.truncated,
                ended=ended,
            ) from exc
        except BaseException:
            await run.end()
            raise
        return ExecOutcome(
            exit_code=exit_code, stdout=bytes(run.stdout), stderr=bytes(run.stderr), truncated=run.truncated
        )


class _Run:
    """One command, from creation to end."""

    def __init__(self, client: EngineClient, container: str, *, output_limit: int, tty: bool) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.truncated = False
        self._client = client
        self._container = container
        self._limit = output_limit
        self._tty = tty
        self._id = ""
        self._started = False

    async def create(self, argv: Sequence[str], env: Mapping[str, str], working_dir: str | None) -> None:
        body: dict[str, object] = {
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

    async def read_output(self) -> None:
        """Start the command and read to the end of its output."""
        decoder = demultiplexer(tty=self._tty)
        self._started = True
        start = {"Detach": False, "Tty": self._tty}
        async with self._client.hijack("POST", path("exec", self._id, "start"), body=start) as stream:
            while chunk := await stream.read():
                for frame in decoder.feed(chunk):
                    self._add(frame)
                if decoder.error is not None:
                    raise decoder.error
        decoder.feed_eof()
        if decoder.error is not None:
            raise decoder.error

    async def wait_ended(self) -> int:
        """The exit code. Polled: the engine records the exit after the end of the output."""
        pause = _POLL_SECS
        while True:
            state = await self._inspect()
            if not fields.flag(state, "Running") and isinstance(state.get("ExitCode"), int):
                return fields.integer(state, "ExitCode")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _POLL_MAX_SECS)

    async def end(self) -> bool:
        """End the command's processes; return whether they are gone. Raises only CancelledError."""
        if not self._started:
            return True
        try:
            async with asyncio.timeout(TERM_SECS + KILL_SECS):
                return await self._end()
        except (DockerError, TimeoutError):
            return False

    async def _end(self) -> bool:
        state = await self._inspect()
        pause = _POLL_SECS
        while not fields.flag(state, "Running") and state.get("ExitCode") is None:
            await asyncio.sleep(pause)  # the engine is still handling the start call
            pause = min(pause * 2, _POLL_MAX_SECS)
            state = await self._inspect()
        if not fields.flag(state, "Running"):
            return True
        pid, container_id = fields.integer(state, "Pid"), fields.text(state, "ContainerID")
        family = processes.find_family(pid, container_id)
        if not family:
            return False  # the engine's processes are not visible from this host or namespace
        processes.send_signal(family, container_id, signal.SIGTERM)
        if await self._gone(family, container_id, TERM_SECS):
            return True
        family |= processes.find_family(pid, container_id)
        processes.send_signal(family, container_id, signal.SIGKILL)
        return await self._gone(family, container_id, KILL_SECS)

    async def _gone(self, family: frozenset[processes.Process], container_id: str, seconds: float) -> bool:
        pauses = round(seconds / _POLL_MAX_SECS)
        for _ in range(pauses):
            if not processes.alive(family, container_id):
                return True
            await asyncio.sleep(_POLL_MAX_SECS)
        return not processes.alive(family, container_id)

    async def _inspect(self) -> Mapping[str, object]:
        response = await self._client.request("GET", path("exec", self._id, "json"))
        return fields.mapping({"exec": response.json()}, "exec")

    def _add(self, frame: Frame) -> None:
        target = self.stderr if frame.type is FrameType.STDERR else self.stdout
        room = self._limit - len(target)
        target += frame.payload[:room]
        self.truncated = self.truncated or len(frame.payload) > room
