"""An upgraded connection on its own socket: what was received is never lost to a failed write."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.errors import EngineTimeout, StreamBroken
from syntra.runtime.docker.raw_socket import RawSocket
from tests.runtime.docker.fake_engine import Peer, fake_engine

UPGRADE = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 70_000, 150_000])
async def test_output_behind_the_head_and_after_a_failed_write_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        # The client reads none of this until the other side is gone, with input that was never read.
        await peer.send(UPGRADE + b"o" * size)

    async with (
        fake_engine(tmp_path, script) as engine,
        EngineClient(engine.endpoint) as client,
        client.hijack("POST", "/exec/x/start") as stream,
        asyncio.timeout(10),
    ):
        with pytest.raises(StreamBroken):
            while True:
                await stream.write(b"i" * 65536)
        seen = 0
        with contextlib.suppress(StreamBroken):
            while chunk := await stream.read():
                assert chunk == b"o" * len(chunk)
                seen += len(chunk)
        assert seen == size


async def test_reading_has_a_deadline_and_loses_nothing_by_it(tmp_path: Path) -> None:
    say = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(UPGRADE)
        await say.wait()
        await peer.send(b"late")

    async with (
        fake_engine(tmp_path, script) as engine,
        EngineClient(engine.endpoint) as client,
        client.hijack("POST", "/exec/x/start") as stream,
    ):
        with pytest.raises(EngineTimeout):
            await stream.read(0.05)
        say.set()
        assert await stream.read(5) == b"late"
        assert await stream.read(5) == b""


async def test_there_is_time_for_other_tasks_between_two_reads() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.closing(RawSocket(ours.fileno(), b"", what="a stream")) as raw:
        theirs.sendall(b"o" * 100_000)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            beside = group.create_task(others(), name="others")
            await asyncio.sleep(0)
            for _ in range(10):
                # There is always something to read, so reading itself never waits.
                theirs.sendall(b"o" * 100_000)
                before = turns
                assert await raw.read()
                assert turns > before
            beside.cancel()
