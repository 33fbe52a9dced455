"""The ring through its door: append, read, take, close, open again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import zstandard

from syntra.telemetry.buffer.errors import RecordTooLarge
from syntra.telemetry.buffer.reader import Pending
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.signals import Record, Signal
from syntra.utils.errors import AgentError
from tests.telemetry.buffer.rings import ALL, names, plain, read_all, record, ring, segment_files


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        for number in range(5):
            buffer.append([record(f"r{number}")])
        reader = buffer.reader("one", ALL)
        assert read_all(reader) == [f"r{number}" for number in range(5)]
        assert reader.next(max_items=1, max_bytes=1) is None


def test_records_of_one_signal_share_a_block_and_a_batch_is_one_zstd_stream(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        buffer.append([record("a", items=2), record("x", signal=Signal.LOGS), record("b", items=3)])
        buffer.append([record("c")])
        batch = buffer.reader("one", [Signal.TRACES]).next(max_items=100, max_bytes=1000)
    assert batch is not None
    assert (batch.signal, batch.items, len(batch.blocks)) == (Signal.TRACES, 6, 2)
    assert plain(batch) == b"a \nb \nc \n"
    assert batch.raw_bytes == len(plain(batch))
    assert zstandard.ZstdDecompressor().decompress(batch.blocks[0]) == b"a \nb \n"
    assert batch.oldest_at_ns < batch.newest_at_ns


def test_profiles_are_never_merged(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        buffer.append([record("a", signal=Signal.PROFILES), record("b", signal=Signal.PROFILES)])
        batch = buffer.reader("one", ALL).next(max_items=100, max_bytes=1000)
    assert batch is not None
    assert len(batch.blocks) == 2


def test_a_batch_ends_at_its_limits_but_has_at_least_one_block(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        for number in range(6):
            buffer.append([record(f"r{number}", items=10)])
        reader = buffer.reader("one", ALL)
        sizes = []
        for items, size in ((25, 1000), (1, 1000), (1000, 9), (1000, 3)):
            batch = reader.next(max_items=items, max_bytes=size)
            assert batch is not None
            sizes.append(len(names(batch)))
    assert sizes == [2, 1, 2, 1]


def test_a_batch_continues_in_the_next_segment(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        for number in range(10):
            buffer.append([record(f"r{number}", size=1500)])
        assert len(segment_files(tmp_path / "ring")) > 2
        batch = buffer.reader("one", ALL).next(max_items=100, max_bytes=1 << 20)
    assert batch is not None
    assert names(batch) == [f"r{number}" for number in range(10)]


def test_a_large_block_in_the_next_segment_waits_for_the_next_batch(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        buffer.append([record("small")])
        buffer.append([record("large", size=9000)])
        reader = buffer.reader("one", ALL)
        batch = reader.next(max_items=100, max_bytes=2000)
        assert batch is not None
        assert names(batch) == ["small"]
        assert read_all(reader, max_bytes=2000) == ["large"]


def test_what_was_taken_stays_taken_after_a_restart_and_what_was_out_is_read_again(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        for number in range(4):
            buffer.append([record(f"r{number}")])
        reader = buffer.reader("one", ALL)
        first = reader.next(max_items=2, max_bytes=1000)
        out = reader.next(max_items=1, max_bytes=1000)
        assert first is not None
        assert out is not None
        reader.taken(first)
    with ring(tmp_path / "ring") as buffer:
        assert read_all(buffer.reader("one", ALL)) == ["r2", "r3"]


def test_a_returned_batch_is_read_again(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        for number in range(3):
            buffer.append([record(f"r{number}")])
        reader = buffer.reader("one", ALL)
        first = reader.next(max_items=1, max_bytes=1000)
        second = reader.next(max_items=1, max_bytes=1000)
        assert first is not None
        assert second is not None
        reader.returned(first)
        reader.taken(second)
        assert read_all(reader) == ["r0", "r2"]


def test_answering_twice_changes_nothing(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        buffer.append([record("a", items=5)])
        buffer.append([record("b", items=7)])
        reader = buffer.reader("one", ALL)
        batch = reader.next(max_items=1, max_bytes=1)
        assert batch is not None
        reader.returned(batch)
        reader.taken(batch)
        assert reader.pending().items == 12
        batch = reader.next(max_items=1, max_bytes=1)
        assert batch is not None
        reader.taken(batch)
        reader.taken(batch)
        reader.returned(batch)
        assert reader.pending().items == 7
        assert read_all(reader) == ["b"]


def test_each_consumer_reads_everything_that_it_asks_for(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        one, other = buffer.reader("one", ALL), buffer.reader("other", [Signal.LOGS])
        for number in range(3):
            buffer.append([record(f"t{number}"), record(f"l{number}", signal=Signal.LOGS)])
        assert read_all(one) == ["l0", "l1", "l2", "t0", "t1", "t2"]
        assert read_all(other) == ["l0", "l1", "l2"]
    with ring(tmp_path / "ring") as buffer:
        assert buffer.consumers() == {"one", "other"}
        assert read_all(buffer.reader("third", [Signal.LOGS])) == ["l0", "l1", "l2"]


def test_segments_that_every_consumer_has_taken_are_removed(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        one, other = buffer.reader("one", ALL), buffer.reader("other", ALL)
        for number in range(20):
            buffer.append([record(f"r{number}", size=1500)])
        assert len(read_all(one)) == 20
        assert len(segment_files(tmp_path / "ring")) > 4
        assert len(read_all(other)) == 20
        assert len(segment_files(tmp_path / "ring")) == 1
        assert buffer.stats().signals[Signal.TRACES].dropped_items == 0


def test_a_forgotten_consumer_holds_nothing(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        one = buffer.reader("one", ALL)
        buffer.reader("gone", ALL)
        for number in range(20):
            buffer.append([record(f"r{number}", size=1500)])
        read_all(one)
        buffer.forget("gone")
        assert len(segment_files(tmp_path / "ring")) == 1
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        assert buffer.consumers() == {"one"}


def test_a_consumer_that_reads_fewer_signals_than_before_releases_the_others(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        buffer.append([record("t"), record("l", signal=Signal.LOGS)])
        read_all(buffer.reader("one", ALL))
    with ring(tmp_path / "ring") as buffer:
        buffer.reader("one", [Signal.LOGS])
        assert read_all(buffer.reader("two", ALL)) == ["l", "t"]
    with ring(tmp_path / "ring") as buffer:
        assert read_all(buffer.reader("one", ALL)) == ["t"]


def test_pending_counts_what_is_not_taken(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        reader = buffer.reader("one", ALL)
        assert reader.pending() == Pending(items=0, bytes=0, oldest_at_ns=0)
        buffer.append([record("a", items=5)])
        buffer.append([record("bb", items=7)])
        batch = reader.next(max_items=1, max_bytes=100)
        assert batch is not None
        assert reader.pending() == Pending(items=12, bytes=7, oldest_at_ns=batch.oldest_at_ns)
        reader.taken(batch)
        assert (reader.pending().items, reader.pending().bytes) == (7, 4)
        assert reader.pending().oldest_at_ns > batch.oldest_at_ns
        later = buffer.reader("later", ALL)
        assert (later.pending().items, later.pending().bytes) == (12, 7)


def test_a_newer_reader_of_the_consumer_counts_what_the_older_one_takes(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        buffer.append([record("a", items=5)])
        buffer.append([record("b", items=7)])
        older = buffer.reader("one", ALL)
        batch = older.next(max_items=1, max_bytes=100)
        assert batch is not None
        newer = buffer.reader("one", ALL)
        assert newer.pending().items == 12
        older.taken(batch)
        assert newer.pending().items == 7
        assert read_all(newer) == ["b"]


def test_priority_between_signals(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        for signal in Signal:
            buffer.append([record(signal.value, signal=signal)])
        assert read_all(buffer.reader("one", ALL)) == ["errors", "metrics", "logs", "traces", "profiles"]


def test_the_newest_does_not_wait_behind_a_backlog(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        for number in range(6):
            buffer.append([record(f"old{number}")])
        reader = buffer.reader("one", ALL)
        buffer.append([record("new")])
        assert read_all(reader, max_items=1)[:3] == ["old0", "new", "old1"]


def test_a_full_ring_drops_its_oldest_and_counts_what_was_not_taken(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        reader = buffer.reader("one", ALL)
        for number in range(100):
            buffer.append([record(f"r{number}", items=3, size=1500)])
            assert sum(file.stat().st_size for file in segment_files(tmp_path / "ring")) <= 64 * 1024
        stats = buffer.stats()
        assert stats.disk_bytes == sum(file.stat().st_size for file in segment_files(tmp_path / "ring"))
        kept = read_all(reader)
        dropped = stats.signals[Signal.TRACES]
        assert kept == [f"r{number}" for number in range(100 - len(kept), 100)]
        assert len(kept) > 35
        assert dropped.dropped_items == 3 * (100 - len(kept))
        assert dropped.dropped_bytes == sum(len(record(f"r{n}", size=1500).data) for n in range(100 - len(kept)))
        assert dropped.dropped_at_ns > 0
        assert reader.pending() == Pending(items=0, bytes=0, oldest_at_ns=0)


def test_what_was_taken_is_not_dropped(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        reader = buffer.reader("one", ALL)
        for number in range(200):
            buffer.append([record(f"r{number}", size=1500)])
            if number % 5 == 0:
                read_all(reader)
        assert buffer.stats().signals[Signal.TRACES].dropped_items == 0


def test_signals_lose_entries_in_their_order_and_each_keeps_its_newest(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        reader = buffer.reader("one", ALL)
        for signal in (Signal.ERRORS, Signal.METRICS, Signal.LOGS, Signal.TRACES):
            for number in range(8):
                buffer.append([record(f"{signal.value}{number}", signal=signal, size=1500)])
        for number in range(14):
            buffer.append([record(f"more{number}", signal=Signal.ERRORS, size=1500)])
        stats = buffer.stats().signals
        assert stats[Signal.ERRORS].dropped_items == stats[Signal.METRICS].dropped_items == 0
        assert stats[Signal.TRACES].dropped_items > 0
        found = read_all(reader)
        assert {"traces7", "logs0", "metrics0", "errors0", "more13"} <= set(found)
        assert "traces0" not in found


def test_a_record_too_large_is_refused_with_everything_beside_it(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        with pytest.raises(RecordTooLarge, match=r"cannot keep 7 items of traces: .*; raise telemetry.buffer_max_mb"):
            buffer.append([record("log", signal=Signal.LOGS), record("huge", items=7, size=80_000)])
        assert read_all(buffer.reader("one", ALL)) == []
        assert buffer.stats().refused_records == 1


def test_an_entry_larger_than_a_segment_is_kept(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=64 * 1024) as buffer:
        reader = buffer.reader("one", ALL)
        for number in range(3):
            buffer.append([record(f"r{number}", size=10_000)])
            buffer.append([record(f"s{number}")])
        assert read_all(reader) == ["r0", "s0", "r1", "s1", "r2", "s2"]


def test_appending_to_a_closed_ring_is_an_error(tmp_path: Path) -> None:
    buffer = Buffer.open(tmp_path / "ring", max_bytes=1 << 20)
    reader = buffer.reader("one", ALL)
    buffer.close()
    buffer.close()
    with pytest.raises(AgentError, match="cannot keep telemetry: the buffer is closed"):
        buffer.append([record("late")])
    assert reader.wait(10) is False
    assert reader.next(max_items=1, max_bytes=1) is None


def test_appending_nothing_is_nothing(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        buffer.append([])
        assert segment_files(tmp_path / "ring") == []


def test_a_waiting_reader_wakes_when_something_arrives(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        reader = buffer.reader("one", [Signal.LOGS])
        assert reader.wait(0.01) is False
        woken: list[bool] = []
        waiting = threading.Thread(target=lambda: woken.append(reader.wait(30)))
        waiting.start()
        buffer.append([record("not for it")])
        buffer.append([record("for it", signal=Signal.LOGS)])
        waiting.join(30)
        assert woken == [True]
        assert reader.wait(0) is True


def test_many_threads_append_and_nothing_is_lost(tmp_path: Path) -> None:
    with ring(tmp_path / "ring", max_bytes=4 << 20) as buffer:
        reader = buffer.reader("one", ALL)

        def work(worker: int) -> None:
            for number in range(100):
                buffer.append([record(f"{worker}-{number}", signal=ALL[number % 5])])

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        found: list[str] = []
        until = time.monotonic() + 60
        while len(found) < 800 and time.monotonic() < until:
            found += read_all(reader, max_items=17)
        for thread in threads:
            thread.join(30)
        assert sorted(found) == sorted(f"{worker}-{number}" for worker in range(8) for number in range(100))


def test_only_regular_private_files_are_made(tmp_path: Path) -> None:
    with ring(tmp_path / "ring") as buffer:
        buffer.append([Record(signal=Signal.LOGS, items=1, data=b"secret")])
        assert (tmp_path / "ring").stat().st_mode & 0o777 == 0o700
        assert [file.stat().st_mode & 0o777 for file in segment_files(tmp_path / "ring")] == [0o600]
