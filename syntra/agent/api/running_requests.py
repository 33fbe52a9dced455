"""Work that commands start and that runs beside them: execs, log streams, queries. Bounded for each peer.

The bounds are shares: what one peer has under way takes nothing from another, and streams take nothing from questions.
A question waits for its turn instead of being refused: a person who looks why the agent is busy must get an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from syntra.agent.messages import PeerGone
from syntra.model.errors import RequestError
from syntra.utils.errors import AgentError

log = logging.getLogger(__name__)

# Execs, log streams and proxy commands of one peer; more than this is refused rather than queued unseen.
MAX_REQUESTS = 64
# Questions of one peer that are answered at the same time, and questions that may wait or be answered.
QUERIES_AT_ONCE = 16
MAX_QUERIES = 256
QUERY_WAIT_SECS = 20.0

Work = Coroutine[Any, Any, None]


class RunningRequests:
    """Tasks of `group`, named and bounded. `share` in the methods names the peer that they count for."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: Counter[str] = Counter()
        self._queries: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}

    def check(self, share: str) -> None:
        """Raise RequestError (BUSY) when the peer has all its requests under way."""
        if self._under_way[share] >= MAX_REQUESTS:
            raise RequestError(
                "BUSY",
                f"cannot take the command: {self._under_way[share]} execs and log streams are under way; try later",
            )

    def start(self, work: Work, name: str, share: str) -> asyncio.Task[None]:
        """Begin a request; `check` comes first."""
        return self._begin(work, name, share, self._under_way)

    def query(self, work: Work, name: str, share: str, refuse: Callable[[RequestError], Work]) -> None:
        """Begin a question once it is its turn; `refuse` answers it when that takes too long."""
        if self._queries[share] >= MAX_QUERIES:
            work.close()
            raise RequestError("BUSY", f"cannot answer: {self._queries[share]} questions are waiting; try later")
        turn = self._turns.setdefault(share, asyncio.Semaphore(QUERIES_AT_ONCE))
        self._begin(_in_turn(work, turn, refuse), name, share, self._queries, also=work)

    def end(self) -> None:
        """The agent stops: all of them end."""
        for task in list(self._tasks):
            task.cancel()

    def _begin(
        self, work: Work, name: str, share: str, counted: Counter[str], also: Work | None = None
    ) -> asyncio.Task[None]:
        task = self._group.create_task(_guarded(work, name), name=name)
        self._tasks.add(task)
        counted[share] += 1

        def ended(_: asyncio.Task[None]) -> None:
            # A task that is cancelled before its first step never runs its own `finally`.
            work.close()
            if also is not None:
                also.close()
            self._tasks.discard(task)
            counted[share] -= 1
            if not counted[share]:
                del counted[share]

        task.add_done_callback(ended)
        return task


async def _in_turn(work: Work, turn: asyncio.Semaphore, refuse: Callable[[RequestError], Work]) -> None:
    try:
        async with asyncio.timeout(QUERY_WAIT_SECS):
            await turn.acquire()
    except TimeoutError:
        late = f"cannot answer: {QUERIES_AT_ONCE} earlier questions took longer than {QUERY_WAIT_SECS:g} s; try later"
        await refuse(RequestError("BUSY", late))
        return
    try:
        await work
    finally:
        turn.release()


async def _guarded(work: Work, name: str) -> None:
    # RunningRequests share the agent's task group: what goes wrong in one of them is its own affair.
    try:
        await work
    except* PeerGone:
        log.debug("peer is gone", extra={"request": name})
    except* AgentError as failed:
        log.error("request failed", extra={"request": name, "reason": str(failed.exceptions[0])})
    except* Exception:  # a bug in the agent
        log.exception("request failed unexpectedly", extra={"request": name})
