"""Commands in a real container: output, exit codes, limits, and an end at the deadline."""

from __future__ import annotations

import asyncio
import os

import pytest

from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import Conflict, ExecTimeout, NotFound
from syntra.runtime.docker.execs import Execs
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
