"""The first telemetry process: a fork of the agent's, made before it reads the configuration and starts a thread.

Agent and telemetry process need the same half of the standard library. A fork shares the memory of it, 6 MB, and the
time to load it. It has to come before the first thread, since only the thread that forks continues in the child, and
before the first secret: a process that hostile requests reach must not have it in memory. A process that replaces this
one is the program run again, see `child`: by then the agent has threads and secrets.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from syntra.telemetry.process.verb import VERB
from syntra.utils.sd_notify import Notifier

COMMON = (
    "asyncio",
    "concurrent.futures.thread",
    "h11",
    "hashlib",
    "http.client",
    "random",
    "ssl",
    "subprocess",
    "tempfile",
    "uuid",
    "syntra.model.figures",
    "syntra.telemetry.collect.figures.message",
    "syntra.telemetry.link",
    "syntra.utils.host_reading",
    "syntra.utils.own_program",
    "syntra.utils.program_pages",
    "syntra.utils.structured_log",
)
"""What both processes load; with all that these load in turn."""
_BEGIN = b"\x01"
_LOOK_SECS = 0.01
_STAT = Path("/proc/self/stat")
_CMDLINE = Path("/proc/self/cmdline")
# Of the fields after the name in parentheses, where the arguments are in memory (proc(5): fields 48 and 49).
_ARG_START, _ARG_END = 45, 46


class ForkedProcess:
    """A child that waits until `begin`. As a context, it has ended afterwards."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        """The agent's end of the link."""
        self.returncode: int | None = None
        """The exit code, negative for a signal; None while it runs."""

    @classmethod
    def make(cls) -> ForkedProcess | None:
        """Fork; None when this process has threads or cannot fork. The child never returns from here."""
        for name in COMMON:
            importlib.import_module(name)
        if threading.active_count() > 1:
            return None
        ours, theirs = socket.socketpair()
        # Later collections leave the objects of before the fork alone; they would write to their pages.
        gc.freeze()
        # A Ctrl-C on the terminal goes to both processes: in the child it must find it ignored.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        except OSError:
            # Too many processes just now: the program is run again later, as after a crash.
            ours.close()
            theirs.close()
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if pid == 0:
            ours.close()
            _serve(theirs)
        theirs.close()
        return cls(pid, ours)

    def begin(self) -> None:
        """Let the child load the rest and wait for its configuration. Raises OSError."""
        self.channel.sendall(_BEGIN)

    async def wait(self) -> int:
        """Wait until the child ends; returns its exit code, negative for a signal."""
        while True:
            self._look(os.WNOHANG)
            if self.returncode is not None:
                return self.returncode
            await asyncio.sleep(_LOOK_SECS)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended."""
        self._look(os.WNOHANG)
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def discard(self) -> None:
        """Kill the child if it runs, and wait for its end."""
        self.kill()
        self._look(0)
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _look(self, options: int) -> None:
        """Take the exit code of the child if it has ended; without WNOHANG wait for that."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)


def _serve(channel: socket.socket) -> NoReturn:
    """The child: wait for the agent's word, then be a telemetry process. Never goes back into the agent's code."""
    code = 1
    try:
        if channel.recv(1) != _BEGIN:
            code = 0
        else:
            Notifier.take()
            with open(os.devnull, "rb") as nothing:
                os.dup2(nothing.fileno(), 0)
            from syntra.telemetry.process.main import main

            _show_verb()
            code = main(channel)
    except Exception:  # noqa: BLE001 - whatever it was is shown, and the process ends here
        traceback.print_exc()
    finally:
        with suppress(Exception):
            logging.shutdown()
        os._exit(code)


def _show_verb() -> None:
    """Make `ps` show the verb of the telemetry process in place of the agent's arguments, if they leave it room."""
    with suppress(OSError, ValueError, IndexError):
        fields = _STAT.read_text().rpartition(")")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        shown = _CMDLINE.read_bytes()
        room = sum(len(os.fsencode(word)) + 1 for word in sys.argv[1:])
        if 0 < start == end - len(shown) and len(VERB) < room < len(shown):
            ctypes.memmove(end - room, VERB.encode().ljust(room, b"\0"), room)
