"""Pages of the program's file: which can be read again, and that they no longer count."""

from __future__ import annotations

import mmap
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from syntra.utils.program_pages import return_program_pages, unchanged

SIZE = 4 << 20


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[Path, mmap.mmap]]:
    """A file and a private, read-only mapping of it that this process has read."""
    path = tmp_path / "program with a blank.bin"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) > 0
        yield path, mapped


def resident_kb(path: Path) -> int:
    """The part of a file that counts as memory of this process."""
    found, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):
            counts = len(words) > 5 and words[5] == str(path)
        elif counts and words[0] == "Rss:":
            found += int(words[1])
    return found


def test_pages_that_were_read_no_longer_count_and_are_read_again(program: tuple[Path, mmap.mmap]) -> None:
    path, mapped = program
    before = mapped[:]
    assert resident_kb(path) == SIZE >> 10
    assert return_program_pages(path) >= SIZE
    assert resident_kb(path) < SIZE >> 11
    assert mapped[:] == before


def test_another_file_keeps_its_pages(program: tuple[Path, mmap.mmap], tmp_path: Path) -> None:
    path, _ = program
    return_program_pages(tmp_path / "another")
    assert resident_kb(path) == SIZE >> 10


MAPPING = """\
7f0000000000-7f0000400000 {permissions} 00001000 fd:00 1234                       /place/program
Size:               4096 kB
Rss:                4096 kB
Anonymous:          {anonymous} kB
Swap:               {swap} kB
VmFlags: rd mr mw me
"""


@pytest.mark.parametrize(
    ("permissions", "anonymous", "swap", "found"),
    [
        ("r--p", 0, 0, [(0x7F0000000000, SIZE)]),
        ("r-xp", 0, 0, []),
        ("rw-p", 0, 0, []),
        ("r--p", 4, 0, []),
        ("r--p", 0, 4, []),
    ],
    ids=["read only", "executed", "written", "changed by the loader", "changed and swapped out"],
)
def test_only_what_is_as_in_the_file_is_given_back(
    permissions: str, anonymous: int, swap: int, found: list[tuple[int, int]]
) -> None:
    smaps = MAPPING.format(permissions=permissions, anonymous=anonymous, swap=swap)
    other = smaps.replace("/place/program", "[heap]").replace("7f00004", "7f00008")
    assert list(unchanged(other + smaps + other, "/place/program")) == found


def test_a_small_mapping_is_not_worth_it() -> None:
    smaps = MAPPING.format(permissions="r--p", anonymous=0, swap=0).replace("7f0000400000", "7f0000001000")
    assert list(unchanged(smaps, "/place/program")) == []


@pytest.mark.parametrize(
    ("path", "permissions", "found"),
    [
        ("/lib/libcrypto.so.3", "r-xp", 1),
        ("/lib/libcrypto.so.3", "r--p", 1),
        ("/lib/libcrypto.so.3", "rw-p", 0),
        ("/place/_rust.abi3.so", "r-xp", 1),
        ("/place/ld.so.cache", "r--p", 0),
        ("/place/notes.so.txt", "r--p", 0),
        ("[vdso].so", "r-xp", 0),
    ],
)
def test_the_code_of_a_library_is_given_back_too(path: str, permissions: str, found: int) -> None:
    smaps = MAPPING.format(permissions=permissions, anonymous=0, swap=0).replace("/place/program", path)
    assert len(list(unchanged(smaps, "/place/program"))) == found


def test_a_library_whose_pages_were_given_back_works() -> None:
    before = sqlite3.connect(":memory:").execute("select sqlite_version()").fetchone()
    assert return_program_pages(Path("/nothing")) > 0
    assert sqlite3.connect(":memory:").execute("select sqlite_version()").fetchone() == before
