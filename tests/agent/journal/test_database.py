"""The journal's file: private, checked at the start, set aside when broken, whole after kills and full disks."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.journal.database import FILE_NAME, KEY_NAME, SCHEMA_VERSION, Database, JournalError
from syntra.model.ids import RequestId, ServiceId
from syntra.utils.errors import AgentError
from tests.agent.journal.opened import Opened, after_a_kill, opened
from tests.agent.journal.samples import accept
from tests.agent.samples import deploy_payload, deployment


async def fill(journal: Opened, count: int = 30) -> None:
    """Commands in every state, kept deployments and messages."""
    for number in range(count):
        padded: dict[str, Any] = {"env": {"PAD": "x" * 500}}
        payload, of = deploy_payload(f"d{number}", **padded), deployment(f"d{number}", **padded)
        await accept(journal, f"r{number}", of, payload=payload, messages=[f"message {number}"])
        if number % 2:
            await journal.journal.finish(RequestId(f"r{number}"), response=None, report={"n": number}, messages=[])


def write_rows(count: int) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        for number in range(count):
            connection.execute("INSERT INTO steps VALUES ('r', ?, ?, 0)", (number, "x" * 1000))

    return work


async def steps(database: Database) -> int:
    return await database.transact(lambda c: int(c.execute("SELECT count(*) FROM steps").fetchone()[0]))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a closed journal with contents."""
    directory = tmp_path_factory.mktemp("filled")

    async def make() -> None:
        async with opened(directory) as journal:
            await fill(journal)
            await journal.journal.rebuild([], [])

    asyncio.run(make())
    return directory


@pytest.fixture
def data_dir(filled: Path, tmp_path: Path) -> Path:
    """A copy of `filled` of one's own."""
    return Path(shutil.copytree(filled, tmp_path / "data"))


async def test_a_new_journal_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with opened(tmp_path) as journal:
            assert (journal.database.is_surveyed, journal.database.was_rebuilt) == (False, "")
            await fill(journal, 2)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert modes == dict.fromkeys([FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", KEY_NAME], 0o600)


async def test_an_open_file_is_made_private_again(data_dir: Path) -> None:
    (data_dir / FILE_NAME).chmod(0o644)
    async with opened(data_dir) as journal:
        assert (journal.database.is_surveyed, journal.database.was_rebuilt) == (True, "")
    assert stat.S_IMODE((data_dir / FILE_NAME).stat().st_mode) == 0o600


async def test_the_file_says_its_version_and_survives_power_cuts(data_dir: Path) -> None:
    async with opened(data_dir) as journal:

        def pragmas(connection: sqlite3.Connection) -> list[object]:
            names = ("user_version", "journal_mode", "synchronous")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await journal.database.transact(pragmas) == [SCHEMA_VERSION, "wal", 2]


async def test_a_journal_of_an_earlier_agent_opens_with_all_that_it_holds(data_dir: Path) -> None:
    path = data_dir / FILE_NAME
    # What the first version had not.
    _sql(path, "ALTER TABLE operations DROP COLUMN stage", "DROP TABLE episodes", "DROP TABLE health_changes")
    async with opened(data_dir) as journal:
        assert journal.database.was_rebuilt == ""
        unfinished = await journal.journal.unfinished()
        assert [(row.request_id, row.stage) for row in unfinished] == [(f"r{n}", 0) for n in range(0, 30, 2)]
        await journal.journal.canary.passed(RequestId("r0"), 2)
    async with opened(data_dir) as journal:
        assert journal.database.was_rebuilt == ""
        assert (await journal.journal.unfinished())[0].stage == 2
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


async def test_a_new_journal_and_a_completed_one_have_the_same_columns(data_dir: Path, tmp_path: Path) -> None:
    _sql(
        data_dir / FILE_NAME,
        "ALTER TABLE operations DROP COLUMN stage",
        "DROP TABLE episodes",
        "DROP TABLE health_changes",
    )
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    found = []
    for directory in (data_dir, fresh):
        async with opened(directory):
            pass
        with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found.append({name: connection.execute(f"PRAGMA table_info({name})").fetchall() for name in sorted(names)})
    assert found[0] == found[1]


def _truncate(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def _overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def _sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "cut in half": lambda p: _truncate(p, 0.5),
    "cut inside the header": lambda p: os.truncate(p, 50),
    "cut after the first page": lambda p: os.truncate(p, 4096),
    "zeroed": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "zeroed from the second page on": lambda p: _overwrite(p, 4096, bytes(p.stat().st_size - 4096)),
    "a page of noise in the middle": lambda p: _overwrite(
        p, p.stat().st_size // 2 // 4096 * 4096, random.Random(1).randbytes(4096)
    ),
    "a garbage header": lambda p: _overwrite(p, 0, b"this is not a database, whatever"),
    "something else altogether": lambda p: p.write_text("dear diary\n" * 1000),
    "an older version": lambda p: _sql(p, "PRAGMA user_version = 0"),
    "a newer version": lambda p: _sql(p, f"PRAGMA user_version = {SCHEMA_VERSION + 1}"),
    "a table missing": lambda p: _sql(p, "DROP TABLE deployments"),
    "the key gone": lambda p: (p.parent / KEY_NAME).unlink(),
    "another key": lambda p: (p.parent / KEY_NAME).write_bytes(bytes(32)),
    "a proof that is no proof": lambda p: _sql(p, "UPDATE meta SET value = 'zz' WHERE key = 'proof'"),
    "a proof of other bytes": lambda p: _sql(p, "UPDATE meta SET value = '0102' WHERE key = 'proof'"),
    "a spec with a bit turned": lambda p: _sql(
        p, "UPDATE deployments SET spec = zeroblob(length(spec)) WHERE deployment_id = 'd3'"
    ),
    "a payload of another command": lambda p: _sql(
        p, "UPDATE commands SET payload = (SELECT payload FROM commands WHERE request_id = 'r2') WHERE request_id='r0'"
    ),
    "a reason that is no reason": lambda p: _sql(p, "UPDATE operations SET reason = 'because' WHERE request_id = 'r0'"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_broken_journal_is_set_aside_loudly_and_a_new_one_works(
    data_dir: Path, breakage: str, caplog: pytest.LogCaptureFixture
) -> None:
    BREAKAGES[breakage](data_dir / FILE_NAME)
    broken = (data_dir / FILE_NAME).read_bytes()
    async with opened(data_dir) as journal:
        database = journal.database
        assert not database.is_surveyed
        [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.getMessage() == "journal is broken and was set aside"
        [kept] = [path for path in data_dir.glob("*.broken-*") if not path.name.endswith(("-wal", "-shm"))]
        assert kept.name in database.was_rebuilt
        assert len(database.was_rebuilt.split(";")[0]) > 10
        assert kept.read_bytes() == broken
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert await journal.journal.services() == []
        await fill(journal, 3)
        await journal.journal.rebuild([], [])
    async with opened(data_dir) as again:
        assert (again.database.is_surveyed, again.database.was_rebuilt) == (True, "")
        assert len(await again.journal.unfinished()) == 2


async def test_a_journal_cut_anywhere_never_keeps_the_agent_from_starting(filled: Path, tmp_path: Path) -> None:
    whole = (filled / FILE_NAME).read_bytes()
    cuts = random.Random(7).sample(range(1, len(whole)), 10)
    for number, cut in enumerate([*cuts, 1, 99, 100, 101, 4095, 4097]):
        directory = tmp_path / str(number)
        directory.mkdir()
        shutil.copy(filled / KEY_NAME, directory)
        (directory / FILE_NAME).write_bytes(whole[:cut])
        async with opened(directory) as journal:
            await assert_rebuilt_or_whole(journal)


async def test_noise_anywhere_is_noticed_or_harmless(filled: Path, tmp_path: Path) -> None:
    whole = (filled / FILE_NAME).read_bytes()
    chance = random.Random(11)
    for number in range(25):
        directory = tmp_path / str(number)
        directory.mkdir()
        shutil.copy(filled / KEY_NAME, directory)
        start = chance.randrange(len(whole) - 64)
        (directory / FILE_NAME).write_bytes(whole[:start] + chance.randbytes(64) + whole[start + 64 :])
        async with opened(directory) as journal:
            await assert_rebuilt_or_whole(journal)


async def assert_rebuilt_or_whole(journal: Opened) -> None:
    """Either the journal begins anew, and says so, or it gives every operation and deployment as it was."""
    if not journal.database.is_surveyed:
        await fill(journal, 1)
        return
    assert journal.database.was_rebuilt == ""
    for row in await journal.journal.unfinished():
        assert row.payload == deploy_payload(f"d{row.request_id[1:]}", env={"PAD": "x" * 500})
    for number in range(30):
        assert await journal.journal.deployment(ServiceId("web"), deployment(f"d{number}").deployment_id)


async def test_a_log_that_a_kill_left_behind_is_taken_over(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    async with opened(directory) as journal:
        await fill(journal, 5)
        left = after_a_kill(directory)
    assert (left / f"{FILE_NAME}-wal").stat().st_size > 0
    async with opened(left) as journal:
        assert journal.database.was_rebuilt == ""
        assert [row.request_id for row in await journal.journal.unfinished()] == ["r0", "r2", "r4"]


@pytest.mark.parametrize("cut", ["half", "noise", "empty", "gone"])
async def test_a_damaged_log_costs_its_last_transactions_at_most(tmp_path: Path, cut: str) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    async with opened(directory) as journal:
        await fill(journal, 4)
        await journal.database.transact(lambda c: c.execute("SELECT 1"))
    async with opened(directory) as journal:
        await fill_more(journal)
        left = after_a_kill(directory)
    log = left / f"{FILE_NAME}-wal"
    match cut:
        case "half":
            _truncate(log, 0.5)
        case "noise":
            _overwrite(log, log.stat().st_size // 2, bytes(range(256)))
        case "empty":
            os.truncate(log, 0)
        case "gone":
            log.unlink()
    async with opened(left) as journal:
        assert journal.database.was_rebuilt == ""
        assert [row.request_id for row in await journal.journal.unfinished()][:2] == ["r0", "r2"]


async def fill_more(journal: Opened) -> None:
    for number in range(10, 14):
        await journal.database.transact(write_rows(number))


async def test_a_log_without_its_file_does_not_come_back(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    async with opened(directory) as journal:
        await fill(journal, 3)
        left = after_a_kill(directory)
    (left / FILE_NAME).unlink()
    async with opened(left) as journal:
        assert await journal.journal.unfinished() == []
        await fill(journal, 1)


async def test_two_broken_journals_of_one_second_are_both_kept(data_dir: Path) -> None:
    for number in range(3):
        (data_dir / FILE_NAME).write_text(f"broken {number}")
        async with opened(data_dir):
            pass
    kept = [path.read_text() for path in data_dir.glob("*.broken-*")]
    assert sorted(kept) == ["broken 0", "broken 1", "broken 2"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key.chmod(0o644),
        lambda key: (key.unlink(), key.symlink_to("/etc/passwd")),
    ],
    ids=["readable by others", "a symlink"],
)
async def test_a_key_that_protects_nothing_is_refused_and_the_journal_left_alone(
    data_dir: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(data_dir / KEY_NAME)
    before = (data_dir / FILE_NAME).read_bytes()
    with pytest.raises(AgentError, match=r"cannot (use|open) key"):
        async with opened(data_dir):
            pass
    assert (data_dir / FILE_NAME).read_bytes() == before
    assert not list(data_dir.glob("*.broken-*"))


@pytest.mark.parametrize("key", [b"", b"short", bytes(31), bytes(33), bytes(4096)], ids=len)
async def test_a_key_of_another_length_is_as_lost_as_a_missing_one(data_dir: Path, key: bytes) -> None:
    (data_dir / KEY_NAME).write_bytes(key)
    async with opened(data_dir) as journal:
        assert journal.database.was_rebuilt
        assert await journal.journal.services() == []
        [kept] = data_dir.glob(f"{KEY_NAME}.broken-*")
        assert kept.read_bytes() == key
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        await fill(journal, 1)
    async with opened(data_dir) as again:
        assert again.database.was_rebuilt == ""


@pytest.mark.parametrize("target", ["there", "nowhere"])
async def test_a_journal_that_is_a_symlink_is_refused_and_its_target_left_alone(data_dir: Path, target: str) -> None:
    journal, elsewhere = data_dir / FILE_NAME, data_dir / "elsewhere"
    if target == "there":
        journal.rename(elsewhere)
        elsewhere.chmod(0o644)
    else:
        journal.unlink()
    journal.symlink_to(elsewhere)
    with pytest.raises(AgentError, match=r"cannot use journal .*: it is a symlink; put the file itself there"):
        async with opened(data_dir):
            pass
    assert journal.is_symlink()
    assert elsewhere.exists() == (target == "there")
    assert target == "nowhere" or stat.S_IMODE(elsewhere.stat().st_mode) == 0o644


async def test_a_path_that_cannot_be_used_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(JournalError, match=r"cannot open .*; check"):
            async with opened(directory):
                pass
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(JournalError, match=r"cannot open .*; check"):
        async with opened(tmp_path):
            pass


async def test_a_transaction_that_raises_leaves_nothing_and_the_next_one_works(journal: Opened) -> None:

    def work(connection: sqlite3.Connection) -> None:
        write_rows(3)(connection)
        raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        await journal.database.transact(work)
    assert await steps(journal.database) == 0
    with pytest.raises(JournalError, match="cannot write"):
        await journal.database.transact(lambda c: (write_rows(3)(c), c.execute("INSERT INTO nowhere VALUES (1)")))
    assert await steps(journal.database) == 0
    await journal.database.transact(write_rows(2))
    assert await steps(journal.database) == 2


async def test_a_kill_inside_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    async with opened(directory) as journal:
        await journal.database.transact(write_rows(1))

        def work(connection: sqlite3.Connection) -> Path:
            # More than the cache holds, so that uncommitted pages are on the disk as well.
            connection.execute("PRAGMA cache_size = 1")
            write_rows(50)(connection)
            return after_a_kill(directory)

        left = await journal.database.transact(work)
        assert await steps(journal.database) == 51
    async with opened(left) as journal:
        assert journal.database.was_rebuilt == ""
        assert await steps(journal.database) == 1


async def test_a_cancelled_caller_does_not_tear_its_transaction(journal: Opened) -> None:
    begun, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(connection: sqlite3.Connection) -> None:
        write_rows(1)(connection)
        loop.call_soon_threadsafe(begun.set)
        go.wait(10)
        write_rows(1)(connection)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(journal.database.transact(work), name="transaction")
        await begun.wait()
        task.cancel()
        go.set()
    assert task.cancelled()
    assert await steps(journal.database) == 2


async def test_another_process_that_holds_the_file_is_an_error_and_costs_nothing(data_dir: Path) -> None:
    with closing(sqlite3.connect(data_dir / FILE_NAME, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="locked"):
            async with opened(data_dir):
                pass
        other.execute("ROLLBACK")
    assert not list(data_dir.glob("*.broken-*"))
    async with opened(data_dir) as journal:
        assert journal.database.was_rebuilt == ""


FULL_DISK = """
import asyncio, json, resource, signal, sys
from pathlib import Path
from typing import Any
from syntra.agent.journal.database import Database, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def write(connection):
    for number in range(200):
        connection.execute("INSERT INTO steps VALUES ('r', ?, ?, 0)", (number, "x" * 1000))

def count(connection):
    return connection.execute("SELECT count(*) FROM steps").fetchone()[0]

async def main():
    said = []
    database = Database(Path(sys.argv[1]))
    await database.open()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    for _ in range(2):
        try:
            await database.transact(write)
            said.append("written")
        except JournalError as full:
            said.append(str(full))
    said.append(await database.transact(count))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await database.transact(write)
    said.append(await database.transact(count))
    await database.close()
    print(json.dumps(said))

asyncio.run(main())
"""


async def test_a_full_disk_refuses_the_transaction_and_the_file_goes_on_when_there_is_room(data_dir: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FULL_DISK, str(data_dir)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    first, second, while_full, afterwards = json.loads(done.stdout)
    for refusal in (first, second):
        assert "cannot write" in refusal
        assert "check the disk's free space" in refusal
    assert (while_full, afterwards) == (0, 200)
    async with opened(data_dir) as journal:
        assert journal.database.was_rebuilt == ""
        assert await steps(journal.database) == 200


@pytest.fixture
def tiny(tmp_path: Path, filled: Path) -> Iterator[Path]:
    """A copy of `filled` on a file system without room for anything else."""
    place = tmp_path / "tiny"
    place.mkdir()
    pages = sum(-(-path.stat().st_size // 4096) for path in filled.iterdir()) + 2
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={pages * 4096}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        shutil.copytree(filled, place / "data")
        yield place / "data"
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_disk_that_is_full_at_the_start_does_not_cost_the_journal(tiny: Path) -> None:
    ballast = tiny / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    with pytest.raises(JournalError, match="check the disk's free space"):
        async with opened(tiny):
            pass
    assert not list(tiny.glob("*.broken-*"))
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(tiny.parent)], check=True)
    async with opened(tiny) as journal:
        assert journal.database.was_rebuilt == ""
        assert len(await journal.journal.unfinished()) == 15
