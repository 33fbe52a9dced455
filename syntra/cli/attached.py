"""The client of an attached exec: this process's streams to the command and back, as frames.

One loop. Input is read only while the agent gave credit for it and has taken what was read before, output only while it
can be written: one piece of each is held here, so a backup of any size takes the same memory. Sending never waits, so
that output continues meanwhile.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import sys
from contextlib import ExitStack, suppress
from typing import BinaryIO, TextIO

from syntra.cli.agent_client import TAKEN_SECS, AgentConnection, broken, raise_for_error
from syntra.cli.exit_codes import CliError
from syntra.cli.raw_terminal import raw_terminal, resizes, size_of_terminal
from syntra.cli.reading import Json
from syntra.cli.terminal import printable, write
from syntra.model.exec_frames import (
    INPUT_BYTES,
    WINDOW_BYTES,
    BadFrame,
    ExecFrames,
    FrameKind,
    credit_of,
    encoded,
    end_of,
    resize,
)

STDIN = 0
PIPE_BYTES = 1024 * 1024
"""The size of a pipe that output goes to, where the kernel allows it: the reader and this process wait less often."""


class Attached:
    """One attached command, after its acceptance. `tty`: it has a terminal, which is this process's own."""

    def __init__(self, connection: AgentConnection, *, stdin: bool, tty: bool) -> None:
        self._connection = connection
        self._frames = ExecFrames()
        self._stdin = stdin
        self._tty = tty
        self._credit = WINDOW_BYTES
        self._unsent = memoryview(b"")
        self._sinks = {FrameKind.STDOUT: _sink(sys.stdout, raw=tty), FrameKind.STDERR: _sink(sys.stderr, raw=tty)}
        self._end: Json | None = None

    def run(self) -> Json:
        """Carry the streams until the command ends; what the agent says of its end. Raises CommandFailed, CliError."""
        with ExitStack() as stack:
            woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, woken)
            stack.callback(os.close, wake)
            if self._tty:
                stack.enter_context(resizes(wake))
                if self._stdin:
                    stack.enter_context(raw_terminal(STDIN))
                self._send(resize(*size_of_terminal(STDIN)))
            self._take(self._connection.rest())
            while self._end is None:
                self._turn(woken)
        for sink in self._sinks.values():
            sink.end()
        if "error" in self._end:
            raise_for_error(self._end)
        return self._end

    def _turn(self, woken: int) -> None:
        agent = self._connection.fileno()
        poll = select.poll()
        poll.register(agent, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        poll.register(woken, select.POLLIN)
        if self._stdin and self._credit and not self._unsent:
            poll.register(STDIN, select.POLLIN)
        # Mostly without a limit: a command may be silent for hours, and an agent that ends closes the connection.
        ready = dict(poll.poll(TAKEN_SECS * 1000 if self._unsent else None))
        if not ready:
            raise broken(f"it took nothing within {TAKEN_SECS} s")
        if woken in ready:
            os.read(woken, 4096)
            self._send(resize(*size_of_terminal(STDIN)))
        if ready.get(agent, 0) & select.POLLOUT:
            self._send(b"")
        if ready.get(agent, 0) & ~select.POLLOUT:
            self._take(self._connection.receive_bytes())
        if STDIN in ready and self._end is None:
            self._give()

    def _send(self, data: bytes) -> None:
        """Send what the agent takes at once of what is left and of this; keep the rest."""
        if data:
            self._unsent = memoryview(b"".join((self._unsent, data)) if self._unsent else data)
        self._unsent = self._unsent[self._connection.send_some(self._unsent) :]

    def _give(self) -> None:
        try:
            data = os.read(STDIN, min(INPUT_BYTES, self._credit))
        except BlockingIOError:
            return
        except OSError:
            # A terminal that hung up, or a closed descriptor: there is no more input.
            data = b""
        self._stdin = bool(data)
        self._credit -= len(data)
        self._send(encoded(FrameKind.INPUT, data) if data else encoded(FrameKind.INPUT_END))

    def _take(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                if frame.kind is FrameKind.EXIT:
                    self._end = end_of(frame)
                elif frame.kind is FrameKind.CREDIT:
                    self._credit += credit_of(frame)
                elif frame.kind in self._sinks:
                    self._sinks[frame.kind].write(frame.payload)
            if self._frames.error is not None:
                raise self._frames.error
        except BadFrame as bad:
            raise broken(str(bad)) from bad


class _RawSink:
    """Bytes to a stream as they are."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        with suppress(OSError):
            # Refused for what is no pipe. A new Linux pipe has 64 KiB.
            if fcntl.fcntl(stream, fcntl.F_GETPIPE_SZ) < PIPE_BYTES:
                fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while True:
                try:
                    self._stream.write(left)
                    left = left[len(left) :]
                    self._stream.flush()
                    return
                except BlockingIOError as full:
                    # Another process that shares the stream made it so that it does not wait by itself.
                    left = left[full.characters_written :]
                    select.select([], [self._stream], [])
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise CliError(f"cannot write the output: {exc.strerror}") from exc

    def end(self) -> None:
        """Nothing is held back."""


class _ShownSink:
    """Bytes to a terminal, with everything escaped that the terminal would obey."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: bytes) -> None:
        write(self._stream, printable(self._decoder.decode(data), keep="\n\t"))

    def end(self) -> None:
        """The beginning of a character may be left."""
        write(self._stream, printable(self._decoder.decode(b"", final=True), keep="\n\t"))


def _sink(stream: TextIO, *, raw: bool) -> _RawSink | _ShownSink:
    """A program that reads a pipe wants the bytes; a terminal would obey them, which only its own command may ask."""
    return _RawSink(stream.buffer) if raw or not stream.isatty() else _ShownSink(stream)
