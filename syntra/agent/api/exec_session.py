"""An exec or a copy whose streams belong to a client of the local socket: input in, output back, until either ends.

Nothing is held without bound. Output: the engine is not read while the client does not take what was sent. Input: the
client may have WINDOW_BYTES under way, and gets CREDIT for what the command has taken; so the agent can always read
the connection, and notices a client that leaves while the command takes nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from syntra.agent.messages import success
from syntra.model import exec_frames
from syntra.model.command import Copy, Exec, ExecStreams
from syntra.model.exec_frames import INPUT_BYTES, WINDOW_BYTES, BadFrame, ExecFrame, FrameKind, encoded
from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from syntra.runtime import runtime
from syntra.runtime.copies import Copies
from syntra.runtime.errors import RuntimeFailure, StepFailed

log = logging.getLogger(__name__)

# After a short piece of output more is waited for, for too short a time to be noticed at a keyboard.
SHORT_BYTES = 16 * 1024
GATHER_SECS = 0.001


class ExecInput:
    """What the client has sent and the command has not taken. Everything on the event loop."""

    def __init__(self) -> None:
        self._held: deque[bytes] = deque()
        self._uncredited = 0
        self._has_ended = False
        self._arrived = asyncio.Event()
        self._size: tuple[int, int] | None = None
        self._resized = asyncio.Event()

    def feed(self, frame: ExecFrame) -> None:
        """Take a frame of the client's; raises BadFrame for one that it must not send."""
        match frame.kind:
            case FrameKind.INPUT:
                self._uncredited += len(frame.payload)
                if self._uncredited > WINDOW_BYTES:
                    raise BadFrame(f"cannot take input: more than {WINDOW_BYTES} bytes without credit")
                if frame.payload:
                    self._held.append(frame.payload)
                self._arrived.set()
            case FrameKind.INPUT_END:
                self._has_ended = True
                self._arrived.set()
            case FrameKind.RESIZE:
                self._size = exec_frames.size_of(frame)
                self._resized.set()
            case _:
                raise BadFrame(f"cannot take a {frame.kind.name} frame from a client")

    async def take(self) -> bytes:
        """The next bytes, b"" at the end."""
        while not self._held and not self._has_ended:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._held:
            return b""
        pieces = [self._held.popleft()]
        size = len(pieces[0])
        while self._held and size + len(self._held[0]) <= INPUT_BYTES:
            pieces.append(self._held.popleft())
            size += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def credited(self, count: int) -> None:
        """The client may send so many bytes more."""
        self._uncredited -= count

    async def next_size(self) -> tuple[int, int]:
        """Rows and columns, when they have changed."""
        await self._resized.wait()
        self._resized.clear()
        assert self._size is not None, "cannot happen because it is set first"
        return self._size


class ExecChannel(Protocol):
    """The client's connection, which carries nothing else any more. Sending raises PeerGone when it is gone."""

    input: ExecInput

    async def accept(self, payload: Mapping[str, Json]) -> None:
        """Send the `command_response` after which everything is frames."""

    async def send(self, frames: bytes) -> None:
        """Send frames; waits while the client does not read."""

    def close(self) -> None:
        """Close the connection once all of it is sent."""


class Source(runtime.Exec, Copies, Protocol):
    """Where commands run and files are."""


class Carried(Protocol):
    """The streams of a command or a copy, as `runtime.ExecSession` and `copies.CopySession` have them."""

    async def read(self) -> Sequence[tuple[bool, bytes]]: ...

    async def write(self, data: bytes) -> None: ...

    def end_input(self) -> None: ...

    async def exit_code(self) -> int: ...


class ExecSession:
    """One attached command, or one copy."""

    def __init__(self, source: Source, command: Exec | Copy, streams: ExecStreams, channel: ExecChannel) -> None:
        self._source = source
        self._command = command
        self._streams = streams
        self._channel = channel
        self.is_accepted = False
        """Whether the client has the acceptance, after which frames follow."""

    async def run(self, container_id: ContainerId, accepted: Mapping[str, Json]) -> int:
        """Run the command in a container; its exit code. `accepted` is the data of the acceptance.

        Raises StepFailed (EXEC_TIMEOUT among others), RuntimeUnavailable, PeerGone. However it ends, the command ends.
        """
        command = self._command
        if isinstance(command, Copy):
            async with self._source.copy(container_id, command.way, command.path) as copied:
                if copied.target is not None:
                    accepted = {**accepted, "is_folder": not copied.target.name, "name": copied.target.name}
                await self._accept(accepted)
                return await self._carry(copied, None)
        try:
            async with (
                asyncio.timeout(command.timeout_secs),
                self._source.attach(
                    container_id, command.argv, env=command.env, working_dir=command.working_dir, streams=self._streams
                ) as session,
            ):
                await self._accept(accepted)
                return await self._carry(session, session if self._streams.tty else None)
        except TimeoutError:
            raise StepFailed(
                "EXEC_TIMEOUT",
                f"cannot finish the command: it ran longer than {command.timeout_secs or 0:g} s; give it more time",
                container_id=container_id,
            ) from None

    async def _accept(self, accepted: Mapping[str, Json]) -> None:
        await self._channel.accept(success(self._command.request_id, accepted))
        self.is_accepted = True

    async def _carry(self, session: Carried, terminal: runtime.ExecSession | None) -> int:
        try:
            async with asyncio.TaskGroup() as group:
                beside = []
                if self._streams.stdin:
                    beside.append(group.create_task(self._feed(session), name="exec input"))
                if terminal is not None:
                    beside.append(group.create_task(self._resize(terminal), name="exec size"))
                while output := await session.read():
                    frames = _framed(output)
                    await self._channel.send(frames)
                    if len(frames) < SHORT_BYTES:
                        # Read as fast as they come, pieces of a few KiB cost more time than what is in them.
                        await asyncio.sleep(GATHER_SECS)
                exit_code = await session.exit_code()
                for task in beside:
                    task.cancel()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return exit_code

    async def _feed(self, session: Carried) -> None:
        owed = 0
        # A command that takes no more input is no failure: its exit code says how it went.
        with suppress(RuntimeFailure):
            while data := await self._channel.input.take():
                await session.write(data)
                owed += len(data)
                if owed >= WINDOW_BYTES // 4:
                    self._channel.input.credited(owed)
                    await self._channel.send(exec_frames.credit(owed))
                    owed = 0
            session.end_input()

    async def _resize(self, session: runtime.ExecSession) -> None:
        rows, columns = self._streams.rows, self._streams.columns
        while True:
            if rows and columns:
                try:
                    await session.resize(rows, columns)
                except RuntimeFailure as failed:
                    log.debug("terminal was not resized", extra={"reason": str(failed)})
            rows, columns = await self._channel.input.next_size()


def _framed(output: Sequence[tuple[bool, bytes]]) -> bytes:
    """Output as frames: a run of one stream is one frame, as the client writes each frame by itself."""
    return b"".join(
        encoded(FrameKind.STDERR if is_error else FrameKind.STDOUT, *(data for _, data in run))
        for is_error, run in itertools.groupby(output, key=lambda piece: piece[0])
    )
