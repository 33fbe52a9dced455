"""The shipper in virtual time: when a batch leaves, what a failure does, how an outage ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest

from syntra.telemetry.shipping.destination import Batch, Part, Pending, Retry, Sent, later, refused, taken
from syntra.telemetry.shipping.pacing import WINDOW_MAX
from syntra.telemetry.shipping.shipper import QUIET_CHECK_SECS, BatchLimits, Shipper
from syntra.telemetry.signals import Signal
from tests.agent.virtual_time import now
from tests.telemetry.shipping.list_reader import ListReader

pytestmark = pytest.mark.virtual_time
LIMITS = BatchLimits(interval_secs=5.0, max_items=100, max_bytes=10_000, replay_items_per_sec=200.0)
Answer = Callable[[Batch], Sent]


class Peer:
    """A destination that takes `secs` for each batch and answers with `answer`."""

    name = "the peer"

    def __init__(self) -> None:
        self.answer: Answer = taken
        self.secs = 0.0
        self.attempts: list[tuple[float, int]] = []
        """Time and items."""
        self.in_flight = 0
        self.most = 0

    async def send(self, batch: Batch) -> Sent:
        self.attempts.append((now(), batch.items))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(self.secs)
            return self.answer(batch)
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        raise AssertionError("the shipper does not own the destination")


def busy(after_secs: float | None = None) -> Answer:
    return lambda batch: later(batch, "HTTP 503", after_secs=after_secs)


@asynccontextmanager
async def running(
    reader: ListReader, peer: Peer, limits: BatchLimits = LIMITS, *, jitter: float = 1.0
) -> AsyncIterator[Shipper[Part]]:
    """A shipper at work. `jitter` is the part of every longest delay that is waited."""
    shipper = Shipper(reader, peer, limits, clock=now, uniform=lambda low, high: low + (high - low) * jitter)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(shipper.run())
        try:
            yield shipper
        finally:
            task.cancel()
    assert not reader.out, "every batch is taken or returned"


def problem(shipper: Shipper[Part]) -> str | None:
    return shipper.problem


async def test_a_batch_that_nothing_is_added_to_is_rarely_looked_at_and_still_leaves_when_full() -> None:
    class Counting(ListReader):
        looks = 0

        def pending(self) -> Pending:
            self.looks += 1
            return super().pending()

    reader, peer = Counting(), Peer()
    async with running(reader, peer, replace(LIMITS, interval_secs=60.0)):
        reader.add(1)
        await asyncio.sleep(50.0)
        assert peer.attempts == [] and reader.looks < 40
        began = now()
        reader.add(99)
        await asyncio.sleep(QUIET_CHECK_SECS)
    [(at, items)] = peer.attempts
    assert items == 100 and at - began <= QUIET_CHECK_SECS


async def test_a_full_batch_leaves_at_once() -> None:
    reader, peer = ListReader(), Peer()
    async with running(reader, peer):
        reader.add(100)
        began = now()
        await asyncio.sleep(0.5)
    assert peer.attempts[0][1] == 100
    assert peer.attempts[0][0] - began < 0.01


async def test_a_batch_of_many_bytes_leaves_at_once() -> None:
    reader, peer = ListReader(), Peer()
    async with running(reader, peer, BatchLimits(max_bytes=50, max_items=1000)):
        reader.add(60)
        await asyncio.sleep(0.5)
    assert [items for _, items in peer.attempts] == [60]


async def test_full_batches_leave_together_as_the_window_grows_and_alone_after_failures() -> None:
    reader, peer = ListReader(), Peer()
    peer.secs = 0.1
    async with running(reader, peer, BatchLimits(max_items=100, full_batches=4, replay_items_per_sec=1e6)) as shipper:
        for _ in range(300):
            reader.add(100)
        await asyncio.sleep(2.0)
        sizes = [items for _, items in peer.attempts]
        assert sizes[0] == 100
        assert max(sizes) == 400
        peer.answer = busy()
        for _ in range(300):
            reader.add(100)
        await asyncio.sleep(60)
        assert shipper.progress.window == 1
        assert peer.attempts[-1][1] == 100


async def test_a_partial_batch_leaves_after_the_interval() -> None:
    reader, peer = ListReader(), Peer()
    async with running(reader, peer):
        await asyncio.sleep(100)
        began = now()
        reader.add(3)
        await asyncio.sleep(2)
        reader.add(4)
        await asyncio.sleep(10)
    assert [(round(at - began, 2), items) for at, items in peer.attempts] == [(5.0, 7)]


async def test_all_signals_that_wait_leave_after_one_interval() -> None:
    reader, peer = ListReader(), Peer()
    peer.secs = 0.1
    async with running(reader, peer):
        await asyncio.sleep(100)
        began = now()
        for items, signal in enumerate((Signal.METRICS, Signal.TRACES, Signal.LOGS), start=1):
            reader.add(items, signal=signal)
        await asyncio.sleep(5.05)
        reader.add(7, signal=Signal.LOGS)
        await asyncio.sleep(10)
    assert [(round(at - began, 1), items) for at, items in peer.attempts] == [(5.0, 1), (5.1, 2), (5.2, 10)]


async def test_what_comes_after_the_interval_waits_for_the_next() -> None:
    reader, peer = ListReader(), Peer()
    async with running(reader, peer):
        await asyncio.sleep(100)
        began = now()
        reader.add(1, signal=Signal.METRICS)
        reader.add(2, signal=Signal.TRACES)
        await asyncio.sleep(6)
        reader.add(3, signal=Signal.TRACES)
        await asyncio.sleep(10)
    assert [round(at - began, 1) for at, _ in peer.attempts] == [5.0, 5.0, 11.0]


async def test_the_interval_can_change_while_a_batch_waits() -> None:
    reader, peer = ListReader(), Peer()
    async with running(reader, peer, BatchLimits(interval_secs=600.0)) as shipper:
        began = now()
        reader.add(3)
        await asyncio.sleep(10)
        shipper.set_interval(20.0)
        await asyncio.sleep(30)
        shipper.set_interval(2.0)
        reader.add(4)
        await asyncio.sleep(30)
    assert [(round(at - began), items) for at, items in peer.attempts] == [(20, 3), (42, 4)]


async def test_what_has_no_place_at_the_peer_is_counted_and_no_problem(caplog: pytest.LogCaptureFixture) -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = lambda batch: Sent(unwanted=batch.items)
    async with running(reader, peer) as shipper:
        reader.add(100)
        await asyncio.sleep(1)
        assert problem(shipper) is None
        counts = shipper.progress.counts[Signal.TRACES]
        assert (counts.unwanted, counts.items, counts.rejected, counts.refused) == (100, 0, 0, 0)
        assert shipper.progress.waiting == 0
    assert not caplog.records


async def test_a_batch_that_fills_does_not_wait_for_the_interval() -> None:
    reader, peer = ListReader(), Peer()
    async with running(reader, peer):
        began = now()
        for _ in range(20):
            reader.add(10)
            await asyncio.sleep(0.1)
        await asyncio.sleep(6)
    assert sum(items for _, items in peer.attempts) == 200
    assert peer.attempts[0][0] - began < 1.5


async def test_a_slow_peer_gets_up_to_eight_batches_at_a_time() -> None:
    reader, peer = ListReader(), Peer()
    peer.secs = 1.0
    async with running(reader, peer, BatchLimits(max_items=100, replay_items_per_sec=1e6)) as shipper:
        for _ in range(80):
            reader.add(100)
        await asyncio.sleep(60)
        assert shipper.progress.window == WINDOW_MAX
    assert peer.most == WINDOW_MAX
    assert len(reader.done) == 80


async def test_a_failure_halves_the_window_once_for_all_that_were_in_flight() -> None:
    reader, peer = ListReader(), Peer()
    peer.secs = 1.0
    async with running(reader, peer, BatchLimits(max_items=100, replay_items_per_sec=1e6)) as shipper:
        for _ in range(400):
            reader.add(100)
        await asyncio.sleep(40)
        assert shipper.progress.window == WINDOW_MAX
        peer.answer = busy()
        await asyncio.sleep(1.1)
        assert shipper.progress.window == WINDOW_MAX // 2
        assert shipper.progress.failures == 1


async def test_after_a_failure_one_batch_tries_with_growing_waits() -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = busy()
    async with running(reader, peer):
        for _ in range(5):
            reader.add(100)
        await asyncio.sleep(120)
        times = [at for at, _ in peer.attempts]
    assert peer.most == 1
    waits = [round(later - earlier) for earlier, later in pairwise(times)]
    assert waits == [1, 2, 4, 8, 16, 30, 30][: len(waits)]
    assert len(waits) >= 6


async def test_the_wait_has_full_jitter() -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = busy()
    async with running(reader, peer, jitter=0.25):
        reader.add(100)
        await asyncio.sleep(3)
    times = [at for at, _ in peer.attempts]
    assert [round(b - a, 2) for a, b in pairwise(times)][:3] == [0.25, 0.5, 1.0]


async def test_the_wait_is_at_least_what_the_peer_asks_for() -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = busy(after_secs=20.0)
    async with running(reader, peer, jitter=0.0):
        reader.add(100)
        await asyncio.sleep(50)
    assert [round(at - peer.attempts[0][0]) for at, _ in peer.attempts] == [0, 20, 40]


async def test_what_the_peer_asks_of_one_batch_holds_for_all_though_others_succeed() -> None:
    reader, peer = ListReader(), Peer()
    peer.secs = 1.0
    async with running(reader, peer, BatchLimits(max_items=100, replay_items_per_sec=1e6)) as shipper:
        for _ in range(400):
            reader.add(100)
        await asyncio.sleep(40)
        assert peer.in_flight > 1
        answers = iter([later(reader.out[0], "HTTP 429", after_secs=20.0)])
        peer.answer = lambda batch: next(answers, None) or taken(batch)
        await asyncio.sleep(1.1)
        assert (shipper.progress.failures, peer.in_flight) == (0, 0)
        began, before = now(), len(peer.attempts)
        await asyncio.sleep(30)
    assert peer.attempts[before][0] - began >= 18.5


async def test_a_peer_cannot_ask_for_a_day() -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = busy(after_secs=86_400.0)
    async with running(reader, peer):
        reader.add(100)
        await asyncio.sleep(310)
    assert len(peer.attempts) == 2


async def test_nothing_is_lost_in_an_outage_and_the_backlog_is_paced() -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = busy()
    async with running(reader, peer) as shipper:
        for _ in range(60):
            reader.add(100)
            await asyncio.sleep(1)
        assert not reader.done
        peer.answer = taken
        ended = now()
        for _ in range(60):
            reader.add(100)
            await asyncio.sleep(1)
        replayed = [(at, items) for at, items in peer.attempts if at > ended]
        assert not shipper.progress.replaying
    arrived = sum(each.items for each in reader.done)
    assert arrived >= 11_900
    # 100 items a second arrive and 200 more are replayed: never twice that in any two seconds.
    for at, _ in replayed:
        assert sum(items for when, items in replayed if at <= when < at + 2) <= 2 * 300 * 1.5
    assert max(at for at, _ in replayed) - ended >= 6000 / 300


async def test_what_waits_from_an_earlier_run_is_paced_too() -> None:
    reader, peer = ListReader(), Peer()
    for _ in range(50):
        reader.add(100)
    async with running(reader, peer):
        began = now()
        await asyncio.sleep(2)
        assert sum(each.items for each in reader.done) <= 600
        await asyncio.sleep(40)
    assert sum(each.items for each in reader.done) == 5000
    assert peer.attempts[-1][0] - began >= 20


async def test_what_is_refused_is_counted_dropped_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = lambda batch: refused(batch, "HTTP 400", wire_bytes=7)
    async with running(reader, peer) as shipper:
        for _ in range(3):
            reader.add(100)
            await asyncio.sleep(1)
        counts = shipper.progress.counts[Signal.TRACES]
        assert (counts.refused, counts.items, counts.batches, counts.bytes) == (300, 0, 3, 21)
        assert problem(shipper) == "cannot ship some telemetry to the peer: it was refused and dropped: HTTP 400"
        await asyncio.sleep(400)
        assert problem(shipper) is None
    assert len(reader.done) == 3
    assert [record.message for record in caplog.records] == ["telemetry was refused and dropped"]


async def test_a_partial_success_is_taken_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = lambda batch: taken(batch, rejected=2, reason="too old", wire_bytes=50)
    async with running(reader, peer) as shipper:
        reader.add(100)
        await asyncio.sleep(1)
        counts = shipper.progress.counts[Signal.TRACES]
    assert (counts.items, counts.rejected, counts.refused) == (98, 2, 0)
    assert len(reader.done) == 1
    assert len(caplog.records) == 1


async def test_only_the_rest_of_a_batch_is_sent_again() -> None:
    reader, peer = ListReader(), Peer()
    rest = Part(signal=Signal.TRACES, blocks=(b"y",), items=40, raw_bytes=40)
    peer.answer = lambda batch: Sent(taken=batch.items - 40, reason="HTTP 503", retry=Retry(rest=rest))
    async with running(reader, peer) as shipper:
        reader.add(100)
        await asyncio.sleep(0.5)
        peer.answer = taken
        await asyncio.sleep(5)
        counts = shipper.progress.counts[Signal.TRACES]
    assert [items for _, items in peer.attempts] == [100, 40]
    assert (counts.items, counts.retries, len(reader.done)) == (100, 1, 1)


async def test_a_destination_that_breaks_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(batch: Batch) -> Sent:
        raise RuntimeError("bug")

    reader, peer = ListReader(), Peer()
    peer.answer = broken
    async with running(reader, peer) as shipper:
        reader.add(100)
        await asyncio.sleep(1)
        peer.answer = taken
        reader.add(100)
        await asyncio.sleep(1)
        counts = shipper.progress.counts[Signal.TRACES]
    assert (counts.refused, counts.items) == (100, 100)
    assert "bug" in caplog.text


async def test_a_short_failure_is_counted_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = busy()
    async with running(reader, peer) as shipper:
        reader.add(100)
        await asyncio.sleep(2)
        peer.answer = taken
        await asyncio.sleep(10)
        assert shipper.progress.counts[Signal.TRACES].retries == 2
    assert len(reader.done) == 1
    assert not caplog.records


async def test_an_outage_is_a_problem_after_a_minute_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reader, peer = ListReader(), Peer()
    peer.answer = busy()
    async with running(reader, peer, jitter=0.5) as shipper:
        reader.add(100)
        await asyncio.sleep(30)
        assert problem(shipper) is None
        assert shipper.progress.last_error == "HTTP 503"
        await asyncio.sleep(60)
        assert problem(shipper) == "cannot ship telemetry to the peer: HTTP 503; 100 items wait in the ring"
        peer.answer = taken
        await asyncio.sleep(60)
        assert problem(shipper) is None
        assert shipper.progress.last_success_at is not None
    assert [record.message for record in caplog.records] == [
        "telemetry cannot be shipped; the ring keeps it",
        "telemetry is shipped again",
    ]


async def test_a_shipper_that_does_not_run_is_a_problem_once_something_waits() -> None:
    reader, peer = ListReader(), Peer()
    shipper = Shipper(reader, peer, LIMITS, clock=now)
    await asyncio.sleep(1000)
    assert problem(shipper) is None
    reader.add(1)
    assert "nothing was sent for 1000 s" in (problem(shipper) or "")


async def test_a_quiet_hour_is_no_problem() -> None:
    reader, peer = ListReader(), Peer()
    async with running(reader, peer) as shipper:
        await asyncio.sleep(3600)
        reader.add(1)
        assert problem(shipper) is None
        await asyncio.sleep(6)
    assert len(reader.done) == 1


async def test_finish_ships_the_last_partial_batch_and_returns() -> None:
    reader, peer = ListReader(), Peer()
    peer.secs = 0.5
    shipper = Shipper(reader, peer, LIMITS, clock=now)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(shipper.run())
        for items in (100, 100, 7):
            reader.add(items)
        began = now()
        await asyncio.sleep(0.1)
        shipper.finish(10.0)
        await task
    assert now() - began < 3
    assert sum(each.items for each in reader.done) == 207


async def test_finish_ends_at_its_deadline_and_the_batch_goes_back() -> None:
    reader, peer = ListReader(), Peer()
    peer.secs = 1000.0
    shipper = Shipper(reader, peer, LIMITS, clock=now)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(shipper.run())
        reader.add(7)
        await asyncio.sleep(0.1)
        shipper.finish(3.0)
        began = now()
        await task
    assert round(now() - began, 1) == 3.0
    assert (reader.returns, reader.out, reader.done) == (1, [], [])


async def test_finish_ends_at_the_first_failure() -> None:
    reader, peer = ListReader(), Peer()
    peer.answer = busy()
    shipper = Shipper(reader, peer, LIMITS, clock=now)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(shipper.run())
        reader.add(7)
        await asyncio.sleep(0)
        shipper.finish(60.0)
        began = now()
        await task
    assert now() - began < 1
    assert len(peer.attempts) == 1
    assert reader.pending().items == 7
