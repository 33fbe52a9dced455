"""A command with streams in a container that is not there: `cat`, `yes` (output without end), `hang`, `exit N`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from syntra.runtime.errors import StepFailed

BUFFER_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024


class FakeSession:
    """Its buffers are bounded as an engine's are; `taken` and `given` count what passed."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._held = bytearray()
        self._input_ended = False
        self._changed = asyncio.Event()
        self.taken = 0
        self.given = 0
        self.sizes: list[tuple[int, int]] = []
        self.has_ended = False

    async def read(self) -> Sequence[tuple[bool, bytes]]:
        match self._argv[0]:
            case "yes":
                await asyncio.sleep(0)
                self.given += CHUNK_BYTES
                return [(False, b"y" * CHUNK_BYTES)]
            case "cat":
                await self._until(lambda: bool(self._held) or self._input_ended)
                data = bytes(self._held)
                self._held.clear()
                self._changed.set()
                self.given += len(data)
                return [(False, data)] if data else []
            case "hang":
                await self._until(lambda: False)
            case "both":
                self._argv = ["exit", "0"]
                return [(False, b"out\n"), (True, b"err\n")]
        return []

    async def write(self, data: bytes) -> None:
        if self._argv[0] not in ("cat", "hang"):
            raise StepFailed("EXEC_FAILED", "cannot write: the command takes no more")
        await self._until(lambda: len(self._held) < BUFFER_BYTES)
        self.taken += len(data)
        self._held += data
        self._changed.set()

    def end_input(self) -> None:
        self._input_ended = True
        self._changed.set()

    async def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    async def exit_code(self) -> int:
        self.has_ended = True
        return int(self._argv[1]) if self._argv[0] == "exit" else 0

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
