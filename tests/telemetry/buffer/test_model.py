"""The ring against lists: rotation, eviction, two consumers, crashes, restarts and a disk that fails at times."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syntra.telemetry.buffer.reader import Batch, Reader
from syntra.telemetry.buffer.ring import Buffer
from syntra.telemetry.signals import Signal
from tests.telemetry.buffer.faulty_disk import BROKEN, FULL, READ_ONLY, FaultyDisk, PowerCut
from tests.telemetry.buffer.rings import ALL, Clock, names, record, segment_files

BUDGET = 48 * 1024
CONSUMERS = ("one", "two")
SIGNALS = st.sampled_from((Signal.TRACES, Signal.LOGS, Signal.ERRORS))
FAULTS = st.sampled_from(("write", "create", "unlink", "truncate", "sync"))


class RingMachine(RuleBasedStateMachine):
    """`owed` is what each consumer has not taken; what the ring does not deliver of it must be counted as dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="ring-model-"))
        self.clock = Clock()
        self.count = 0
        self.items: dict[str, int] = {}
        self.owed: dict[str, dict[str, None]] = {consumer: {} for consumer in CONSUMERS}
        self.unsure: set[str] = set()
        """What a crash may have lost or not: kept in memory only, or not acknowledged."""
        self.unsaved: dict[str, set[str]] = {consumer: set() for consumer in CONSUMERS}
        """What is taken, while the disk may not know."""
        self.again: dict[str, set[str]] = {consumer: set() for consumer in CONSUMERS}
        """What the ring may deliver or not, after a crash."""
        self.out: list[tuple[str, Batch]] = []
        self.dropped = 0
        self.appended_while_out = False

    @initialize()
    def open(self) -> None:
        self.disk = FaultyDisk()
        self.buffer = Buffer.open(self.directory, max_bytes=BUDGET, disk=self.disk, clock=self.clock)
        self.readers: dict[str, Reader] = {consumer: self.buffer.reader(consumer, ALL) for consumer in CONSUMERS}
        self.out.clear()

    @rule(signals=st.lists(SIGNALS, min_size=1, max_size=3), size=st.sampled_from((0, 500, 2500, 3600)))
    def append(self, signals: list[Signal], size: int) -> None:
        made = []
        for signal in signals:
            self.count += 1
            name = f"r{self.count}"
            self.items[name] = 1 + self.count % 3
            made.append(record(name, signal=signal, items=self.items[name], size=size))
            for owed in self.owed.values():
                owed[name] = None
            self.unsure.add(name)
        self.appended_while_out |= bool(self.out)
        self.buffer.append(made)
        if not self.buffer.stats().memory_only:
            self.unsure.clear()

    @rule(consumer=st.sampled_from(CONSUMERS), items=st.integers(1, 12), size=st.integers(1, 9000))
    def read(self, consumer: str, items: int, size: int) -> None:
        batch = self.readers[consumer].next(max_items=items, max_bytes=size)
        if batch is None:
            return
        found = names(batch)
        assert batch.items == sum(self.items[name] for name in found)
        assert len(batch.blocks) == 1 or (batch.items <= items and batch.raw_bytes <= size)
        outstanding = [name for other, each in self.out if other == consumer for name in names(each)]
        assert not set(found) & set(outstanding)
        assert set(found) <= self.owed[consumer].keys() | self.again[consumer]
        self.out.append((consumer, batch))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), keeps=st.booleans())
    def answer(self, data: st.DataObject, keeps: bool) -> None:
        consumer, batch = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if not keeps:
            self.readers[consumer].returned(batch)
            return
        self._take(consumer, batch)

    @rule(fault=FAULTS, code=st.sampled_from((FULL, BROKEN, READ_ONLY)), short=st.sampled_from((None, 1, 100)))
    def break_disk(self, fault: str, code: int, short: int | None) -> None:
        self.disk.failing[fault] = code
        self.disk.short = short

    @rule()
    def repair_disk(self) -> None:
        self.disk.failing.clear()
        self.disk.short = None
        self.buffer.maintain()
        assert not self.buffer.stats().memory_only
        assert self.buffer.stats().reason == ""
        self.unsure.clear()
        for unsaved in self.unsaved.values():
            unsaved.clear()

    @rule()
    def restart(self) -> None:
        self._close(crash=False)
        self.open()

    @rule()
    def kill(self) -> None:
        self._close(crash=True)
        self.open()

    @rule(after=st.integers(1, 3), short=st.sampled_from((None, 1, 60, 600)), signal=SIGNALS, keeps=st.booleans())
    def cut_power_in_a_call(self, after: int, short: int | None, signal: Signal, keeps: bool) -> None:
        self.disk.failing.clear()
        self.disk.short = None
        self.disk.cut_at = self.disk.calls + after
        if after == 1:
            self.disk.short = short
        with contextlib.suppress(PowerCut):
            self.append([signal, Signal.LOGS], 1000)
            if self.out and keeps:
                self._take(*self.out.pop())
        self._close(crash=True)
        self.open()

    def _take(self, consumer: str, batch: Batch) -> None:
        for name in names(batch):
            self.owed[consumer].pop(name, None)
            self.unsaved[consumer].add(name)
        self.readers[consumer].taken(batch)
        if not self.buffer.stats().reason:
            self.unsaved[consumer].clear()

    def _close(self, *, crash: bool) -> None:
        self._count_dropped()
        if crash:
            # Nothing is written any more: the files stay as they are.
            self.disk.is_cut, self.disk.cut_at = True, 0
        self.buffer.close()
        if crash or self.disk.failing:
            for consumer in CONSUMERS:
                for name in self.unsure:
                    self.owed[consumer].pop(name, None)
                self.again[consumer] |= self.unsure | self.unsaved[consumer]
                self.unsaved[consumer].clear()
        self.unsure.clear()

    def _count_dropped(self) -> None:
        self.dropped += self._dropped_now()

    def _dropped_now(self) -> int:
        return sum(each.dropped_items for each in self.buffer.stats().signals.values())

    @invariant()
    def is_within_its_budget(self) -> None:
        if hasattr(self, "buffer"):
            on_disk = sum(file.stat().st_size for file in self.directory.iterdir())
            assert on_disk <= BUDGET + (6100 if "truncate" in self.disk.failing else 0)
            assert len(segment_files(self.directory)) == self.buffer.stats().segments

    def teardown(self) -> None:
        if not hasattr(self, "buffer"):
            shutil.rmtree(self.directory)
            return
        try:
            self._read_the_rest()
        finally:
            self.buffer.close()
            shutil.rmtree(self.directory)

    def _read_the_rest(self) -> None:
        self.disk.failing.clear()
        self.disk.short = None
        self.buffer.maintain()
        missing: set[str] = set()
        for consumer, reader in self.readers.items():
            for other, batch in self.out:
                if other == consumer:
                    reader.returned(batch)
            pending, dropped = reader.pending(), self._dropped_now()
            found: Counter[str] = Counter()
            while batch_ := reader.next(max_items=7, max_bytes=4000):
                found.update(names(batch_))
                reader.taken(batch_)
            assert max(found.values(), default=1) == 1
            # Positions take room too: taking one batch may evict another.
            assert 0 <= pending.items - sum(self.items[name] for name in found) <= self._dropped_now() - dropped
            assert found.keys() <= self.owed[consumer].keys() | self.again[consumer]
            missing |= self.owed[consumer].keys() - found.keys()
        self._count_dropped()
        lost = sum(self.items[name] for name in missing)
        assert lost <= self.dropped
        if not self.appended_while_out and not any(self.again.values()):
            assert lost == self.dropped


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
