"""What a start finds: torn tails, damage, foreign files. It never refuses, and reads whatever is readable."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
from pathlib import Path

import pytest

from syntra.telemetry.buffer import entry
from syntra.telemetry.signals import Signal
from tests.telemetry.buffer.rings import ALL, names, read_all, record, ring, segment_files

BUDGET = 64 * 1024


def write_ring(directory: Path, count: int, *, size: int = 0) -> list[str]:
    """A ring with records; the names."""
    with ring(directory, max_bytes=BUDGET) as buffer:
        buffer.reader("one", ALL)
        for number in range(count):
            buffer.append([record(f"r{number}", size=size)])
    return [f"r{number}" for number in range(count)]


def ends(file: Path) -> list[int]:
    """Where the blocks of a segment end."""
    marker = bytes.fromhex(file.name.split("-")[2].removesuffix(".ring"))
    return [each.end for each in entry.scan(file.read_bytes(), marker).entries if each.kind == entry.BLOCK]


def read_again(directory: Path) -> list[str]:
    with ring(directory, max_bytes=BUDGET) as buffer:
        return read_all(buffer.reader("one", ALL))


def test_a_tail_cut_at_every_index_loses_only_what_is_not_whole(tmp_path: Path) -> None:
    written = write_ring(tmp_path / "ring", 3)
    (file,) = segment_files(tmp_path / "ring")
    whole, boundaries = file.read_bytes(), ends(file)
    for cut in range(len(whole) + 1):
        directory = tmp_path / "cut"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        (directory / file.name).write_bytes(whole[:cut])
        with ring(directory, max_bytes=BUDGET) as buffer:
            reader = buffer.reader("one", ALL)
            buffer.append([record("later")])
            complete = sum(end <= cut for end in boundaries)
            assert read_all(reader) == [*written[:complete], "later"]
        assert read_again(directory) == []


def test_any_changed_byte_costs_at_most_its_block(tmp_path: Path) -> None:
    written = write_ring(tmp_path / "ring", 3)
    (file,) = segment_files(tmp_path / "ring")
    whole, boundaries = file.read_bytes(), ends(file)
    for place in range(len(whole)):
        directory = tmp_path / "changed"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        (directory / file.name).write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        hit = [number for number, end in enumerate(boundaries) if end > place][:1]
        lost = hit if place >= boundaries[0] - (boundaries[1] - boundaries[0]) else []
        with ring(directory, max_bytes=BUDGET) as buffer:
            reader = buffer.reader("one", ALL)
            buffer.append([record("later")])
            assert read_all(reader) == [*(name for n, name in enumerate(written) if n not in lost), "later"]


def test_zeros_where_a_power_cut_left_a_page_unwritten_are_skipped(tmp_path: Path) -> None:
    written = write_ring(tmp_path / "ring", 2, size=1500)
    (file,) = segment_files(tmp_path / "ring")
    whole = bytearray(file.read_bytes())
    whole[600:900] = bytes(300)
    file.write_bytes(whole)
    with ring(tmp_path / "ring", max_bytes=BUDGET) as buffer:
        assert buffer.stats().bad_segments == 1
        buffer.append([record("later")])
        assert read_all(buffer.reader("one", ALL)) == [*written[1:], "later"]


def test_what_a_crash_left_half_written_is_cut_and_counted(tmp_path: Path) -> None:
    written = write_ring(tmp_path / "ring", 2)
    (file,) = segment_files(tmp_path / "ring")
    with file.open("ab") as handle:
        handle.write(b"torn")
    size = file.stat().st_size
    with ring(tmp_path / "ring", max_bytes=BUDGET) as buffer:
        assert buffer.stats().torn_bytes == 4
        assert buffer.stats().bad_segments == 0
        assert file.stat().st_size == size - 4
        assert read_all(buffer.reader("one", ALL)) == written


def test_a_segment_without_any_entry_is_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    written = write_ring(tmp_path / "ring", 10, size=1500)
    files = segment_files(tmp_path / "ring")
    files[1].write_bytes(random.Random(1).randbytes(3000))
    with ring(tmp_path / "ring", max_bytes=BUDGET) as buffer:
        assert buffer.stats().bad_segments == 1
        found = read_all(buffer.reader("one", ALL))
        assert found == [name for name in written if name not in {"r2", "r3"}]
        assert (tmp_path / "ring" / (files[1].name + ".bad")).exists()


def test_a_damaged_segment_is_set_aside_when_it_has_been_read(tmp_path: Path) -> None:
    write_ring(tmp_path / "ring", 10, size=1500)
    first = segment_files(tmp_path / "ring")[0]
    data = bytearray(first.read_bytes())
    data[200] ^= 1
    first.write_bytes(data)
    with ring(tmp_path / "ring", max_bytes=BUDGET) as buffer:
        assert read_all(buffer.reader("one", ALL)) == [f"r{number}" for number in range(1, 10)]
        assert (tmp_path / "ring" / (first.name + ".bad")).read_bytes() == data
        assert buffer.stats().bad_segments == 1


def test_segments_set_aside_are_few_and_within_the_budget(tmp_path: Path) -> None:
    directory = tmp_path / "ring"
    directory.mkdir()
    for number in range(9):
        (directory / f"logs-{number:012x}-00000000.ring").write_bytes(bytes(3000))
    (directory / "logs-000000000100-00000000.ring").write_bytes(bytes(BUDGET))
    with ring(directory, max_bytes=BUDGET) as buffer:
        assert buffer.stats().bad_segments == 10
        aside = list(directory.glob("*.bad"))
        assert len(aside) <= 2
        assert buffer.stats().disk_bytes == sum(file.stat().st_size for file in aside) <= BUDGET // 8
    with ring(directory, max_bytes=BUDGET) as buffer:
        assert buffer.stats().disk_bytes == sum(file.stat().st_size for file in aside)
        for number in range(100):
            buffer.append([record(f"r{number}", size=1500)])
        assert list(directory.glob("*.bad")) == []


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "ring"
    write_ring(directory, 1)
    foreign = ("notes.txt", "traces-1-2.ring", "other-000000000001-00000000.ring", "traces-000000000001.ring", ".ring")
    for name in foreign:
        (directory / name).write_text("mine")
    (directory / "folder").mkdir()
    assert read_again(directory) == ["r0"]
    assert all((directory / name).read_text() == "mine" for name in foreign)
    assert (directory / "folder").is_dir()


@pytest.mark.parametrize(
    "kind", ["directory", "full directory", "link", "dangling link", "fifo", "unreadable", "empty"]
)
def test_anything_under_the_name_of_a_segment(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "ring"
    directory.mkdir()
    place = directory / "traces-000000000001-0a0b0c0d.ring"
    target = tmp_path / "target"
    target.write_text("not touched")
    match kind:
        case "directory":
            place.mkdir()
        case "full directory":
            (place / "inner").mkdir(parents=True)
        case "link":
            place.symlink_to(target)
        case "dangling link":
            place.symlink_to(tmp_path / "nowhere")
        case "fifo":
            os.mkfifo(place)
        case "unreadable":
            place.write_bytes(b"x" * 100)
            place.chmod(0)
        case _:
            place.touch()
    with ring(directory, max_bytes=BUDGET) as buffer:
        buffer.append([record("a")])
        assert not buffer.stats().memory_only
        assert buffer.stats().bad_segments == (kind != "empty")
    assert read_again(directory) == ["a"]
    assert target.read_text() == "not touched"


@pytest.mark.parametrize("kind", ["file", "link", "missing parent"])
def test_anything_in_place_of_the_directory(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "data" / "ring"
    if kind != "missing parent":
        directory.parent.mkdir()
    if kind == "file":
        directory.write_text("a file")
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        directory.symlink_to(tmp_path / "elsewhere")
    with ring(directory, max_bytes=BUDGET) as buffer:
        buffer.append([record("a")])
        assert buffer.stats().memory_only == (kind != "missing parent")
        assert bool(buffer.stats().reason) == (kind != "missing parent")
        assert read_all(buffer.reader("one", ALL)) == ["a"]
    assert list((tmp_path / "elsewhere").glob("*")) == []


def test_a_directory_open_to_others_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "ring").mkdir(mode=0o777)
    write_ring(tmp_path / "ring", 1)
    assert (tmp_path / "ring").stat().st_mode & 0o777 == 0o700


def test_a_second_ring_in_the_same_directory_waits_in_memory(tmp_path: Path) -> None:
    directory = tmp_path / "ring"
    directory.mkdir()
    handle = os.open(directory, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with ring(directory, max_bytes=BUDGET) as buffer:
        buffer.append([record("a")])
        assert buffer.stats().memory_only
        assert buffer.stats().reason == "the directory is in use by another process"
        os.close(handle)
        buffer.maintain()
        assert not buffer.stats().memory_only
    assert read_again(directory) == ["a"]


def test_a_directory_that_is_removed_while_the_ring_works_is_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "ring"
    with ring(directory, max_bytes=BUDGET) as buffer:
        reader = buffer.reader("one", ALL)
        buffer.append([record("a")])
        shutil.rmtree(directory)
        buffer.append([record("b")])
        buffer.maintain()
        buffer.append([record("c")])
        assert not buffer.stats().memory_only
        assert read_all(reader) == ["a", "b", "c"]
        buffer.append([record("d")])
    assert read_again(directory) == ["d"]


def test_a_smaller_budget_drops_the_oldest_at_the_start(tmp_path: Path) -> None:
    write_ring(tmp_path / "ring", 20, size=1500)
    with ring(tmp_path / "ring", max_bytes=BUDGET // 4) as buffer:
        found = read_all(buffer.reader("one", ALL))
        assert buffer.stats().disk_bytes <= BUDGET // 4
    assert found == [f"r{number}" for number in range(20 - len(found), 20)]
    assert found


def test_segments_of_many_short_runs_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(10):
        with ring(tmp_path / "ring", max_bytes=BUDGET) as buffer:
            buffer.append([record(f"r{number}")])
    assert len(segment_files(tmp_path / "ring")) == 1
    assert read_again(tmp_path / "ring") == [f"r{number}" for number in range(10)]


def test_an_entry_that_two_segments_have_is_read_once(tmp_path: Path) -> None:
    # A write that failed in the middle of several blocks, could not be cut, and was written again elsewhere.
    directory = tmp_path / "ring"
    write_ring(directory, 2)
    (file,) = segment_files(directory)
    signal, _, marker = file.name.split("-")
    copy = directory / f"{signal}-{2:012x}-{marker}"
    copy.write_bytes(file.read_bytes())
    with ring(directory, max_bytes=BUDGET) as buffer:
        reader = buffer.reader("one", ALL)
        assert buffer.stats().signals[Signal.TRACES].stored_items == 2
        assert reader.pending().items == 2
        assert read_all(reader) == ["r0", "r1"]


def test_positions_survive_the_loss_of_the_newest_segment(tmp_path: Path) -> None:
    directory = tmp_path / "ring"
    with ring(directory, max_bytes=BUDGET) as buffer:
        reader = buffer.reader("one", ALL)
        for number in range(3):
            buffer.append([record(f"r{number}", size=1500)])
        batch = reader.next(max_items=1, max_bytes=10)
        assert batch is not None
        assert names(batch) == ["r0"]
        reader.taken(batch)
        for number in range(3, 6):
            buffer.append([record(f"r{number}", size=1500)])
    segment_files(directory)[-1].unlink()
    with ring(directory, max_bytes=BUDGET) as buffer:
        found = read_all(buffer.reader("one", ALL))
        assert found[0] == "r1"
        buffer.append([record("later", signal=Signal.TRACES)])
        assert read_all(buffer.reader("one", ALL)) == ["later"]


def test_each_segment_begins_with_the_positions(tmp_path: Path) -> None:
    directory = tmp_path / "ring"
    with ring(directory, max_bytes=BUDGET) as buffer:
        reader = buffer.reader("one", ALL)
        buffer.append([record("r0", size=1500)])
        buffer.append([record("r1", size=1500)])
        batch = reader.next(max_items=1, max_bytes=10)
        assert batch is not None
        reader.taken(batch)
        buffer.append([record("r2", size=1500)])
    first, _ = segment_files(directory)
    first.write_bytes(first.read_bytes()[: ends(first)[-1]])
    with ring(directory, max_bytes=BUDGET) as buffer:
        assert buffer.consumers() == {"one"}
        assert read_all(buffer.reader("one", ALL)) == ["r1", "r2"]
