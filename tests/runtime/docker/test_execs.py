"""Commands in a real container: output, exit codes, limits, and an end at the deadline."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import pytest

from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import Conflict, ExecTimeout, NotFound, StreamBroken
from syntra.runtime.docker.execs import Execs, ExecSession
from syntra.runtime.docker.frames import FrameType
from tests.runtime.docker.scratch import Scratch, container

pytestmark = pytest.mark.engine

FOREVER = ["sleep", "1000"]
LIMIT = 64 * 1024


async def marked(made: Scratch, mark: str) -> list[str]:
    """Command lines of processes of the container that carry a mark, as the container sees them."""
    top = (await made.client.request("GET", f"/containers/{made.id}/top")).json()
    assert isinstance(top, dict)
    return [" ".join(row) for row in top["Processes"] if mark in " ".join(row)]


async def test_output_exit_code_environment_and_directory_arrive(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        execs = Execs(made.client)
        script = "echo out $A; pwd; echo err >&2; exit 7"
        outcome = await execs.run(
            made.id, ["sh", "-c", script], env={"A": "b c"}, working_dir="/tmp", deadline=20, output_limit=LIMIT
        )
        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (7, b"out b c\n/tmp\n", b"err\n")
        assert not outcome.truncated
        assert "out" not in repr(outcome)
        outcome = await execs.run(
            made.id, ["sh", "-c", "echo a; echo b >&2"], deadline=20, output_limit=LIMIT, tty=True
        )
        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, b"a\r\nb\r\n", b"")
        outcome = await execs.run(made.id, ["/no/such"], deadline=20, output_limit=LIMIT)
        assert outcome.exit_code in (126, 127)


async def test_output_beyond_the_limit_is_dropped_and_the_command_still_ends(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        outcome = await Execs(made.client).run(
            made.id, ["sh", "-c", "yes | head -c 3000000; exit 5"], deadline=20, output_limit=1000
        )
        assert outcome.exit_code == 5
        assert outcome.stdout == b"y\n" * 500
        assert outcome.truncated


@pytest.mark.skipif(os.geteuid() != 0, reason="only root on the engine's host can end the processes of an exec")
async def test_a_deadline_ends_the_command_with_its_descendants(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        script = "trap '' TERM; (sleep 771 & sleep 772 & wait) & echo before; sleep 773; sleep 774"
        with pytest.raises(ExecTimeout, match=r"ran longer than 0\.5 s; give it more time") as caught:
            await Execs(made.client).run(made.id, ["sh", "-c", script], deadline=0.5, output_limit=LIMIT)
        assert caught.value.stdout == b"before\n"
        assert caught.value.ended
        assert await marked(made, "sleep 77") == []
        assert await marked(made, "sleep 1000") != [], "the container itself goes on"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root on the engine's host can end the processes of an exec")
async def test_a_deadline_ends_a_command_that_never_stops_talking(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        with pytest.raises(ExecTimeout) as caught:
            await Execs(made.client).run(made.id, ["yes"], deadline=0.5, output_limit=LIMIT)
        assert (caught.value.stdout, caught.value.truncated) == (b"y\n" * (LIMIT // 2), True)
        assert await marked(made, "yes") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root on the engine's host can end the processes of an exec")
async def test_cancelling_ends_the_command(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        run = Execs(made.client).run(made.id, ["sleep", "775"], deadline=60, output_limit=LIMIT)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run, name="exec")
            async with asyncio.timeout(20):
                while not await marked(made, "sleep 775"):
                    await asyncio.sleep(0.02)
            task.cancel()
        assert task.cancelled()
        assert await marked(made, "sleep 775") == []


async def test_a_container_that_does_not_run_or_exist_is_told(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER, start=False) as made:
        execs = Execs(made.client)
        with pytest.raises(Conflict, match="is not running"):
            await execs.run(made.id, ["true"], deadline=20, output_limit=LIMIT)
        with pytest.raises(NotFound):
            await execs.run("syntra-test-absent", ["true"], deadline=20, output_limit=LIMIT)


async def output_of(session: ExecSession) -> tuple[bytes, bytes]:
    stdout, stderr = b"", b""
    while frames := await session.read():
        stdout += b"".join(frame.payload for frame in frames if frame.type is FrameType.STDOUT)
        stderr += b"".join(frame.payload for frame in frames if frame.type is FrameType.STDERR)
    return stdout, stderr


async def test_input_reaches_the_command_and_its_end_is_seen(endpoint: Endpoint, image: str) -> None:
    data = bytes(range(256)) * 20_000
    async with container(endpoint, image, FOREVER) as made:
        streams = Execs(made.client).attach(made.id, ["cat"], env={}, working_dir=None, tty=False, stdin=True)
        async with streams as session, asyncio.TaskGroup() as group:

            async def feed() -> None:
                for begin in range(0, len(data), 65536):
                    await session.write(data[begin : begin + 65536])
                session.end_input()

            group.create_task(feed(), name="feed")
            assert await output_of(session) == (data, b"")
            assert await session.exit_code() == 0


async def test_output_is_whole_when_a_command_ends_before_its_input(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        for _ in range(10):
            argv = ["head", "-c", "300000"]
            streams = Execs(made.client).attach(made.id, argv, env={}, working_dir=None, tty=False, stdin=True)
            async with streams as session, asyncio.TaskGroup() as group:

                async def feed() -> None:
                    with suppress(StreamBroken):
                        while True:
                            await session.write(b"x" * 65536)

                feeding = group.create_task(feed(), name="feed")
                assert await output_of(session) == (b"x" * 300_000, b"")
                assert await session.exit_code() == 0
                # The engine may reset the connection, or leave what is written unread.
                feeding.cancel()


async def test_a_terminal_has_the_size_that_it_is_given(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        argv = ["sh", "-c", "read line; stty size; exit 3"]
        streams = Execs(made.client).attach(made.id, argv, env={}, working_dir=None, tty=True, stdin=True)
        async with streams as session:
            await session.resize(33, 77)
            await session.write(b"go\n")
            stdout, stderr = await output_of(session)
            assert (stdout.splitlines()[-1], stderr) == (b"33 77", b"")
            assert await session.exit_code() == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root on the engine's host can end the processes of an exec")
async def test_leaving_the_streams_ends_the_command(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        argv = ["sh", "-c", "echo up; sleep 776"]
        async with Execs(made.client).attach(
            made.id, argv, env={}, working_dir=None, tty=False, stdin=False
        ) as session:
            assert [frame.payload for frame in await session.read()] == [b"up\n"]
        assert await marked(made, "sleep 776") == []
