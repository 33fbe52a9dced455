"""Commands inside containers: run one to its end with bounded output, or attach to its streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import ExecTimeout, StreamBroken
from syntra.runtime.docker.exec_process import ExecProcess
from syntra.runtime.docker.frames import Frame, FrameType, demultiplexer
from syntra.runtime.docker.records import ExecOutcome
from syntra.runtime.docker.streams import HijackedStream

log = logging.getLogger(__name__)


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
        process = ExecProcess(self._client, container, tty=tty, stdin=False)
        output = _Output(output_limit)
        try:
            async with asyncio.timeout(deadline):
                await process.create(argv, env or {}, working_dir)
                async with process.start() as stream:
                    session = ExecSession(process, stream, tty=tty, stdin=False)
                    while frames := await session.read():
                        for frame in frames:
                            output.add(frame)
                exit_code = await process.wait_ended()
        except TimeoutError as exc:
            ended = await process.end()
            raise ExecTimeout(
                container,
                deadline,
                stdout=bytes(output.stdout),
                stderr=bytes(output.stderr),
                truncated=output.truncated,
                ended=ended,
            ) from exc
        except BaseException:
            await process.end()
            raise
        return ExecOutcome(
            exit_code=exit_code,
            stdout=bytes(output.stdout),
            stderr=bytes(output.stderr),
            truncated=output.truncated,
        )

    @asynccontextmanager
    async def attach(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        tty: bool,
        stdin: bool,
    ) -> AsyncIterator[ExecSession]:
        """Start a command; the block has its streams, and ends its processes unless `exit_code` has returned."""
        process = ExecProcess(self._client, container, tty=tty, stdin=stdin)
        try:
            await process.create(argv, env, working_dir)
            async with process.start() as stream:
                yield ExecSession(process, stream, tty=tty, stdin=stdin)
        finally:
            if not await process.end():
                log.warning("processes of a command may still run", extra={"container": container[:12]})


class ExecSession:
    """The streams of a running command. Reading and writing may happen at the same time."""

    def __init__(self, process: ExecProcess, stream: HijackedStream, *, tty: bool, stdin: bool) -> None:
        self._process = process
        self._stream = stream
        self._stdin = stdin
        self._decoder = demultiplexer(tty=tty)

    async def read(self) -> Sequence[Frame]:
        """The next output; empty once it has ended. Not read, the engine waits and so does the command.

        Raises StreamBroken when the connection drops.
        """
        while self._decoder.error is None:
            try:
                chunk = await self._stream.read()
            except StreamBroken:
                # The engine resets the connection when a command ends without having read all its input. Whether it
                # has ended, `exit_code` tells.
                if not self._stdin:
                    raise
                chunk = b""
            if not chunk:
                self._decoder.feed_eof()
                if self._decoder.error is None:
                    return []
            elif frames := [frame for frame in self._decoder.feed(chunk) if frame.payload]:
                return frames
        raise self._decoder.error

    async def write(self, data: bytes) -> None:
        """Send to the command's input, waiting while it does not read. StreamBroken once it takes no more."""
        await self._stream.write(data)

    def end_input(self) -> None:
        """Close the command's input. Over TLS the engine offers no way to do so, and the command is not told."""
        self._stream.write_eof()

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of the command's terminal."""
        await self._process.resize(rows, columns)

    async def exit_code(self) -> int:
        """Wait for the command's end; its exit code."""
        return await self._process.wait_ended()


class _Output:
    """What is kept of both streams, up to a limit for each."""

    def __init__(self, limit: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.truncated = False
        self._limit = limit

    def add(self, frame: Frame) -> None:
        target = self.stderr if frame.type is FrameType.STDERR else self.stdout
        room = self._limit - len(target)
        target += frame.payload[:room]
        self.truncated = self.truncated or len(frame.payload) > room
