"""Starts worker processes by fork, from a small process that was forked before this one had threads.

A fork of a process with threads may hang, and a compiled program may have no file that could be executed again. So the
server is forked first, stays small and single-threaded, and forks each worker when it is asked. A worker has the code
and the log of the process that called `start`, and nothing of its later memory.

Server and workers ignore SIGTERM, SIGINT and SIGHUP: a service manager or a terminal signals the whole group, but only
the owner knows when a worker is done. Both end when the owner's end of their socket closes, also after a SIGKILL.
"""

from __future__ import annotations

import array
import asyncio
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

_START = b"s"
_STATUS = struct.Struct("!i")
END_SECS = 10.0
"""How long a worker may take to end after its owner is gone, before it is killed."""

Main = Callable[[socket.socket], int]
"""What a worker runs: gets its socket, returns the exit code."""


class ForkServer:
    """The owner's side. One worker runs at a time."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self._pid = pid
        self._control = control

    @classmethod
    def start(cls, main: Main, *, name: str) -> Self:
        """Fork the server. Call it before any thread or event loop exists. `name` is shown by `ps` (15 characters)."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _become(name)
            _serve(theirs, main)
        theirs.close()
        ours.setblocking(False)
        return cls(pid, ours)

    async def spawn(self) -> socket.socket:
        """Start a worker; returns the socket that leads to it. Raises OSError when the server is gone."""
        ours, theirs = socket.socketpair()
        try:
            # A byte with a file descriptor always fits into an empty socket buffer.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))
            self._control.sendmsg([_START], [rights])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return ours

    async def ended(self) -> int:
        """Wait until the worker ends; returns its exit code, negative for a signal. Raises OSError: no server."""
        received = b""
        while len(received) < _STATUS.size:
            part = await asyncio.get_running_loop().sock_recv(self._control, _STATUS.size - len(received))
            if not part:
                raise ConnectionResetError("the fork server has ended")
            received += part
        code: int = _STATUS.unpack(received)[0]
        return code

    def close(self) -> None:
        """End the server, and its worker if it still runs; waits for both. Blocks at most END_SECS and a little."""
        self._control.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _become(name: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])


def _serve(control: socket.socket, main: Main) -> NoReturn:
    """The server's loop: fork on request, report each end, leave when the owner is gone."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    woken.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    worker = 0
    while True:
        select.select([control, woken], [], [])
        with suppress(BlockingIOError):
            woken.recv(64)
        if worker:
            found, status = os.waitpid(worker, os.WNOHANG)
            if found:
                worker = 0
                with suppress(OSError):
                    control.sendall(_STATUS.pack(os.waitstatus_to_exitcode(status)))
        if not select.select([control], [], [], 0)[0]:
            continue
        request, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not request:
            _end(worker)
        if worker:
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        worker = os.fork()
        if worker == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for own in (control, woken, wake):
                own.close()
            _work(main, socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _work(main: Main, channel: socket.socket) -> NoReturn:
    code = 1
    try:
        code = main(channel)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        # Not sys.exit: the stack below belongs to the process that was forked.
        os._exit(code)


def _end(worker: int) -> NoReturn:
    """The owner is gone, and so is its end of the worker's socket: give the worker time, then kill it."""
    deadline = time.monotonic() + END_SECS
    while worker and time.monotonic() < deadline and not os.waitpid(worker, os.WNOHANG)[0]:
        time.sleep(0.02)
    with suppress(OSError):
        if worker and not os.waitpid(worker, os.WNOHANG)[0]:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
    os._exit(0)
