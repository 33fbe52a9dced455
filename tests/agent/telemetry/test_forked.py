"""The first telemetry process, forked: each test in an interpreter of its own, since the tests' has threads."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from syntra.agent.telemetry.forked import COMMON

DONE_SECS = 60.0


def run(program: str, *arguments: str) -> str:
    """Run a program after the usual imports; its standard output."""
    top = "import asyncio, os, signal, sys, threading, time\nfrom pathlib import Path\n"
    top += "from syntra.agent.telemetry.child import ChildProgram\nfrom syntra.telemetry.link import Link\n"
    top += "from syntra.agent.telemetry.forked import COMMON, ForkedProcess\n"
    done = subprocess.run(
        [sys.executable, "-c", top + textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=DONE_SECS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_child_is_a_telemetry_process_that_ends_with_the_link() -> None:
    shown = run(
        """
        async def main(forked):
            child = ChildProgram(forked)
            link = await Link.over(await child.spawn())
            comm = Path(f"/proc/{forked.pid}/comm")
            while comm.read_text() != "syntra-telemetr\\n":
                await asyncio.sleep(0.01)
            print(Path(f"/proc/{forked.pid}/cmdline").read_bytes().rstrip(b"\\0").split(b"\\0")[-1].decode())
            print(os.readlink(f"/proc/{forked.pid}/fd/0"))
            child.reopen_log()
            link.close()
            print(await child.ended(), forked.returncode)
            await child.close()
            # The next one is the program run again.
            link = await Link.over(await child.spawn())
            link.close()
            print(await child.ended())

        with ForkedProcess.make() as forked:
            asyncio.run(main(forked))
        """,
        "start",
        "--config",
        "/etc/agent.toml",
    )
    assert shown.split() == ["telemetry-process", "/dev/null", "0", "0", "0"]


def test_a_child_that_is_not_needed_is_gone_at_once() -> None:
    shown = run(
        """
        with ForkedProcess.make() as forked:
            forked.discard()
            print(forked.returncode == -signal.SIGKILL, Path(f"/proc/{forked.pid}").exists())
            forked.discard()
        with ForkedProcess.make() as forked:
            os.kill(forked.pid, signal.SIGINT)
            forked.channel.close()
            print(asyncio.run(forked.wait()))
        """
    )
    assert shown.split() == ["True", "False", "0"]


def test_a_child_that_was_killed_says_by_what() -> None:
    shown = run(
        """
        async def main(forked):
            child = ChildProgram(forked)
            ours = await child.spawn()
            await child.close()
            print(await child.ended())

        with ForkedProcess.make() as forked:
            asyncio.run(main(forked))
        """
    )
    assert shown.split() == ["-9"]


def test_a_process_with_threads_does_not_fork() -> None:
    shown = run(
        """
        ended = threading.Event()
        threading.Thread(target=ended.wait).start()
        print(ForkedProcess.make())
        ended.set()
        """
    )
    assert shown.split() == ["None"]


def test_the_child_keeps_its_name_when_the_arguments_leave_no_room_for_its_verb() -> None:
    shown = run(
        """
        with ForkedProcess.make() as forked:
            forked.begin()
            while Path(f"/proc/{forked.pid}/comm").read_text() != "syntra-telemetr\\n":
                time.sleep(0.01)
            print(Path(f"/proc/{forked.pid}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes())
        """,
        "start",
    )
    assert shown.split() == ["True"]


@pytest.mark.parametrize("program", ["syntra.agent.app", "syntra.telemetry.process.main"])
def test_what_is_loaded_before_the_fork_is_what_both_processes_load(program: str) -> None:
    loaded = f"import sys, {program}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=DONE_SECS, check=True)
    # These two when they are first needed: HTTP to the control plane or from a sender, threads of the event loop.
    assert set(COMMON) - set(done.stdout.split()) <= {"h11", "concurrent.futures.thread"}
    assert len(COMMON) == len(set(COMMON))
