"""The runtime's `Exec`, spoken in Engine API calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from syntra.model.command import ExecStreams
from syntra.model.ids import ContainerId
from syntra.model.status import ExecResult
from syntra.runtime.docker import execs
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import translated
from syntra.runtime.docker.frames import FrameType

OUTPUT_BYTES = 256 * 1024
"""What is kept of each stream: both together, escaped for JSON, fit into one message of 16 MiB in any case."""


class Commands:
    """Commands inside the containers of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._execs = execs.Execs(client)

    async def execute(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        deadline_secs: float,
    ) -> ExecResult:
        """As `Exec.execute` of the runtime."""
        with translated("EXEC_FAILED", container_id):
            outcome = await self._execs.run(
                container_id, argv, env=env, working_dir=working_dir, deadline=deadline_secs, output_limit=OUTPUT_BYTES
            )
        return ExecResult(
            exit_code=outcome.exit_code, stdout=outcome.stdout, stderr=outcome.stderr, truncated=outcome.truncated
        )

    @asynccontextmanager
    async def attach(
        self,
        container_id: ContainerId,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        working_dir: str | None,
        streams: ExecStreams,
    ) -> AsyncIterator[_Session]:
        """As `Exec.attach` of the runtime."""
        with translated("EXEC_FAILED", container_id):
            async with self._execs.attach(
                container_id, argv, env=env, working_dir=working_dir, tty=streams.tty, stdin=streams.stdin
            ) as session:
                yield _Session(session, container_id)


class _Session:
    """The runtime's `ExecSession` over a command of the engine."""

    def __init__(self, session: execs.ExecSession, container_id: ContainerId) -> None:
        self._session = session
        self._container_id = container_id

    async def read(self) -> Sequence[tuple[bool, bytes]]:
        with translated("EXEC_FAILED", self._container_id):
            frames = await self._session.read()
        return [(frame.type is FrameType.STDERR, frame.payload) for frame in frames]

    async def write(self, data: bytes) -> None:
        with translated("EXEC_FAILED", self._container_id):
            await self._session.write(data)

    def end_input(self) -> None:
        with translated("EXEC_FAILED", self._container_id):
            self._session.end_input()

    async def resize(self, rows: int, columns: int) -> None:
        with translated("EXEC_FAILED", self._container_id):
            await self._session.resize(rows, columns)

    async def exit_code(self) -> int:
        with translated("EXEC_FAILED", self._container_id):
            return await self._session.exit_code()
