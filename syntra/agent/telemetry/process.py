"""Runs the telemetry process, starts it again when it ends, and exchanges messages with it.

The process receives, samples, keeps and ships telemetry. It is apart from the agent so that a flood of spans delays
neither heartbeats nor deploys, and so that a hostile request meets a process without the engine's socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from syntra.agent.telemetry.tail_queue import TailQueue
from syntra.model.fields import Json
from syntra.telemetry.link import Link, Message
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

ANSWER_SECS = 5.0
"""How long the process may take to answer a question."""
# How long the process may take to start, and to flush its last batch when the agent stops.
_START_SECS = 20.0
_STOP_SECS = 8.0
BACKOFF_SECS = (1.0, 2.0, 5.0, 15.0, 60.0)
# A process that ran this long was no crash loop.
_STEADY_SECS = 60.0

Handler = Callable[[Message], Awaitable[None]]


class Server(Protocol):
    """Starts telemetry processes; see `child`."""

    async def spawn(self) -> socket.socket: ...

    async def ended(self) -> int: ...

    def reopen_log(self) -> None: ...

    async def close(self) -> None: ...


class NoTelemetry(AgentError):
    """The telemetry process is off, or does not answer."""

    code = "TELEMETRY_UNAVAILABLE"


class TelemetryProcess:
    """The process. `run` keeps one running until it is cancelled; `stop` ends it in order."""

    def __init__(
        self,
        server: Server,
        configuration: Mapping[str, Json],
        *,
        answer_secs: float = ANSWER_SECS,
        backoff_secs: Sequence[float] = BACKOFF_SECS,
    ) -> None:
        self._server = server
        self._answer_secs = answer_secs
        self._backoff_secs = backoff_secs
        # What a new process must know, by kind of message; told again after each start.
        self._state: dict[str, Mapping[str, Json]] = {"configure": configuration}
        self._handlers: dict[str, Handler] = {}
        self._link: Link | None = None
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._tails: dict[int, TailQueue] = {}
        self._numbers = itertools.count(1)
        self._is_ready = asyncio.Event()
        self._telling = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._has_stopped = asyncio.Event()
        self._problem: str | None = None
        self._reported: str | None = None
        self.starts = 0
        """How often a process was started."""

    @property
    def is_ready(self) -> bool:
        """Whether a process runs and answers."""
        return self._is_ready.is_set()

    @property
    def problem(self) -> str | None:
        """Why telemetry is not received, or what is wrong with it, as one sentence; None when all is well."""
        return self._problem or self._reported

    def on(self, kind: str, handler: Handler) -> None:
        """Handle messages of this kind. A handler must not wait for the process."""
        self._handlers[kind] = handler

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None:
        """Send the process a part of its state; a process that replaces it gets the last of each kind."""
        async with self._telling:
            if self._state.get(kind) != fields:
                self._state[kind] = fields
                await self.send(kind, fields)

    async def send(self, kind: str, fields: Mapping[str, Json], body: bytes = b"") -> None:
        """Send a message, if a process runs."""
        if self._link is not None:
            with suppress(OSError):
                await self._link.send(kind, fields, body)

    async def ask(self, kind: str, fields: Mapping[str, Json] | None = None) -> Mapping[str, Json]:
        """Ask the process; returns its answer. Raises NoTelemetry."""
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            async with asyncio.timeout(self._answer_secs):
                await self._is_ready.wait()
                await self.send(kind, {**(fields or {}), "number": number})
                return (await answer).fields
        except TimeoutError:
            raise self._no_answer() from None
        finally:
            del self._answers[number]

    async def tail(self, filters: Mapping[str, Json]) -> AsyncGenerator[Mapping[str, Json], None]:
        """What is received from now on, as `tail` messages of the process, until it ends. Raises NoTelemetry.

        What a slow reader misses is counted and left out.
        """
        await self._until_ready()
        number = next(self._numbers)
        queue = self._tails[number] = TailQueue()
        try:
            await self.send("tail", {**filters, "number": number})
            while (fields := await queue.get()) is not None:
                yield fields
            raise NoTelemetry("cannot show more telemetry: the telemetry process has ended; try again")
        finally:
            self._tails.pop(number, None)
            await self.send("end_tail", {"number": number})

    async def run(self) -> None:
        """Keep a process running until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping.is_set():
            began = loop.time()
            try:
                ended = await self._run_once()
            except (OSError, ValueError, TimeoutError) as failed:
                ended = str(failed) or "it did not start in time"
            finally:
                self._disconnect()
            if self._stopping.is_set():
                break
            failures = 1 if loop.time() - began >= _STEADY_SECS else failures + 1
            pause = self._backoff_secs[min(failures, len(self._backoff_secs)) - 1]
            self._problem = (
                f"telemetry is not received: {ended}; the agent starts the telemetry process again in {pause:g} s, "
                "and its log has the reason"
            )
            log.error("telemetry process ended", extra={"reason": ended, "next_start_secs": pause})
            await asyncio.sleep(pause)
        self._has_stopped.set()

    def reopen_log(self) -> None:
        """Let the process open its log file again."""
        self._server.reopen_log()

    async def stop(self) -> None:
        """Let the process flush its last batch and end, within a bound. `run` must still be running."""
        self._stopping.set()
        if self._link is not None:
            await self.send("stop", {})
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECS):
                    await self._has_stopped.wait()
        # Ends the process too, if it still runs.
        await self._server.close()

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(self._answer_secs):
                # It may have ended again before the wait is over.
                while not self._is_ready.is_set():
                    await self._is_ready.wait()
        except TimeoutError:
            raise self._no_answer() from None

    def _no_answer(self) -> NoTelemetry:
        reason = self._problem or f"the telemetry process gave no answer within {self._answer_secs:g} s"
        return NoTelemetry(f"cannot ask for telemetry: {reason}")

    async def _run_once(self) -> str:
        """Start a process and serve it until it ends; returns how it ended."""
        link = await Link.over(await self._server.spawn())
        self.starts += 1
        try:
            async with self._telling:
                for kind, fields in self._state.items():
                    await link.send(kind, fields)
                self._link = link
            async with asyncio.timeout(_START_SECS):
                has_started = await self._receive(link, until="ready")
            if has_started:
                self._problem = None
                self._is_ready.set()
                await self._receive(link, until="")
        finally:
            link.close()
        async with asyncio.timeout(_START_SECS):
            code = await self._server.ended()
        return f"the telemetry process was killed by signal {-code}" if code < 0 else f"it ended with exit code {code}"

    async def _receive(self, link: Link, *, until: str) -> bool:
        """Take messages until one of this kind comes (true) or the process has closed its end."""
        while (message := await link.receive()) is not None:
            if message.kind == until:
                return True
            await self._take(message)
        return False

    async def _take(self, message: Message) -> None:
        number: Any = message.fields.get("number")
        match message.kind:
            case "answer":
                answer = self._answers.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case "tail":
                queue = self._tails.get(number)
                if queue is not None:
                    queue.put(message.fields)
            case "problem":
                sentence = message.fields.get("sentence")
                self._reported = sentence if isinstance(sentence, str) else None
            case kind:
                handler = self._handlers.get(kind)
                if handler is None:
                    log.warning("unknown message of the telemetry process", extra={"kind": kind})
                else:
                    await handler(message)

    def _disconnect(self) -> None:
        self._link = None
        self._reported = None
        self._is_ready.clear()
        for queue in self._tails.values():
            queue.end()
        self._tails.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(NoTelemetry("cannot ask for telemetry: the telemetry process has ended"))
