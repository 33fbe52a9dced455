"""The telemetry process as a child with one end of a socket pair: the fork of the start, later the program again."""

from __future__ import annotations

import asyncio
import signal
import socket

from syntra.agent.telemetry.forked import ForkedProcess
from syntra.telemetry.process.verb import VERB
from syntra.utils.own_program import own_program

_KILL_SECS = 5.0


class ChildProgram:
    """Starts one child at a time. The child ends when this end of its socket closes, also after a SIGKILL."""

    def __init__(self, first: ForkedProcess | None = None) -> None:
        """`first` was forked already, and is the first child."""
        self._first = first
        self._process: asyncio.subprocess.Process | ForkedProcess | None = None

    async def spawn(self) -> socket.socket:
        """Start a child; returns the agent's end of its socket. Raises OSError."""
        first, self._first = self._first, None
        if first is not None:
            self._process = first
            first.begin()
            first.channel.setblocking(False)
            return first.channel
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *own_program(),
                VERB,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return ours

    async def ended(self) -> int:
        """Wait until the child ends; returns its exit code, negative for a signal."""
        assert self._process is not None, "cannot happen because a child was started"
        return await self._process.wait()

    def reopen_log(self) -> None:
        """Let the child open its log file again, after logrotate has moved it."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def close(self) -> None:
        """End the child if it still runs."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.kill()
        async with asyncio.timeout(_KILL_SECS):
            await process.wait()
