"""A request whose body is sent over time, in chunks, while its response is awaited.

The engine may answer before it has read everything, with the reason why it does not; then it waits half a second before
it closes the connection (Go's net/http). The response is read meanwhile: after a failed write it could not be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from syntra.runtime.docker.connection import EngineConnection
from syntra.runtime.docker.errors import DockerError, EngineError, EngineTimeout, StreamBroken
from syntra.utils.http1 import Head, encode_chunk

MAX_ANSWER_BYTES = 64 * 1024


class EngineUpload:
    """The body of one request, and its response. `error_of` makes the error of a response from its head and body.

    `idle_deadline`: seconds that the engine may take nothing of the body, or give no response after its end.
    """

    def __init__(
        self,
        connection: EngineConnection,
        error_of: Callable[[Head, bytes], EngineError],
        *,
        what: str,
        idle_deadline: float,
    ) -> None:
        self._connection = connection
        self._what = what
        self._idle = idle_deadline
        self._response_due: asyncio.TimerHandle | None = None
        self._error_of = error_of
        self._failure: DockerError | None = None
        self._answered = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Await the response beside the block, until its end at the longest."""
        try:
            async with asyncio.TaskGroup() as group:
                answer = group.create_task(self._answer(), name="engine upload")
                try:
                    yield
                finally:
                    if self._response_due is not None:
                        self._response_due.cancel()
                answer.cancel()
        except BaseExceptionGroup as failed:
            # The group's own task raises nothing, so this is what the block raised.
            raise failed.exceptions[0] from None

    async def write(self, data: bytes) -> None:
        """Send a piece, waiting while the engine does not read. Raises StreamBroken once it reads no more.

        Why the connection broke, or that the engine took too long, is what `answered` says.
        """
        if self._answered.is_set():
            raise StreamBroken("the upload", "the engine takes no more")
        try:
            async with asyncio.timeout(self._idle):
                self._connection.send(encode_chunk(data))
                await self._connection.drain()
        except TimeoutError:
            self._give_up()
        except OSError:
            return

    def end(self) -> None:
        """The body is complete."""
        if not self._answered.is_set():
            self._connection.send(encode_chunk(b""))
            self._response_due = asyncio.get_running_loop().call_later(self._idle, self._give_up)

    async def answered(self) -> None:
        """Wait for the response. Raises EngineError for a status of 300 or above, DockerError when none arrives."""
        await self._answered.wait()
        if self._failure is not None:
            raise self._failure

    def _give_up(self) -> None:
        if not self._answered.is_set():
            self._failure = EngineTimeout(self._what, self._idle)
            self._connection.abort()

    async def _answer(self) -> None:
        try:
            head = await self._connection.read_head()
            body = b""
            while (chunk := await self._connection.read_body()) and len(body) < MAX_ANSWER_BYTES:
                body += chunk
            if head.status >= 300:
                self._failure = self._error_of(head, body)
        except DockerError as failed:
            self._failure = self._failure or failed
        finally:
            self._answered.set()
            # What was not sent by now is not wanted any more.
            self._connection.abort()
