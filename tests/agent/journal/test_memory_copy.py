"""The journal on a full disk: what may be lost continues in memory, and comes back to the file with space."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.journal.opened import opened

# A limit on file sizes, which SQLite sees as a full disk; in a process of its own, as it holds for all of it.
SCRIPT = """
import asyncio, json, os, resource, signal, sys
from pathlib import Path
from syntra.agent.journal.database import Database, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def write(connection):
    for number in range(200):
        connection.execute("INSERT INTO steps VALUES ('r', ?, ?, 0)", (number, "x" * 1000))

def one(connection):
    connection.execute("INSERT INTO steps VALUES ('one', 0, '', 0)")

def fails(connection):
    one(connection)
    raise ValueError("in the middle")

def count(connection):
    return connection.execute("SELECT count(*) FROM steps").fetchone()[0]

async def main():
    said = {}
    database = Database(Path(sys.argv[1]))
    await database.open()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    await database.without_disk().transact(write)
    said["filled"] = database.filled.is_set()
    said["warning"] = database.warning
    said["read"] = await database.transact(count)
    try:
        await database.transact(one)
    except JournalError as refused:
        said["refused"] = str(refused)
    try:
        await database.without_disk().transact(fails)
    except ValueError:
        said["undone"] = await database.transact(count)
    if sys.argv[2] == "kill":
        print(json.dumps(said), flush=True)
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    if sys.argv[2] == "space":
        await database.transact(one)
        said["after"] = [database.filled.is_set(), database.warning]
    await database.close()
    print(json.dumps(said))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("ending", "left"),
    [("kill", 0), ("space", 201), ("close", 200)],
    ids=["killed while full", "space comes back", "closed when there is space"],
)
async def test_what_is_written_on_a_full_disk_is_read_and_kept_if_space_comes_back(
    tmp_path: Path, ending: str, left: int
) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SCRIPT, str(tmp_path), ending],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["filled"] is True
    assert f"the disk of {tmp_path} is full" in said["warning"]
    assert (said["read"], said["undone"]) == (200, 200)
    assert "cannot write" in said["refused"]
    assert said.get("after", [False, ""]) == [False, ""]
    async with opened(tmp_path) as journal:
        assert journal.database.was_rebuilt == ""
        counted = await journal.database.transact(lambda c: c.execute("SELECT count(*) FROM steps").fetchone()[0])
        assert counted == left
