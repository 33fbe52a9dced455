"""Whose turn it is: by priority, without starving, and newest entries beside a backlog."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.telemetry.buffer.intervals import Intervals
from syntra.telemetry.buffer.turns import FRAGMENTS, LIVE_LAG_NS, PATIENCE, PRIORITY, Replay, SignalTurns
from syntra.telemetry.signals import Signal


def test_the_signal_with_priority_is_first() -> None:
    assert SignalTurns().pick({Signal.TRACES, Signal.ERRORS, Signal.LOGS}) is Signal.ERRORS
    assert SignalTurns().pick({Signal.TRACES, Signal.LOGS}) is Signal.LOGS
    assert SignalTurns().pick({Signal.PROFILES}) is Signal.PROFILES


@settings(deadline=None)
@given(st.lists(st.sets(st.sampled_from(PRIORITY), min_size=1), min_size=1, max_size=60))
def test_no_signal_starves(rounds: list[set[Signal]]) -> None:
    turns = SignalTurns()
    waited = dict.fromkeys(PRIORITY, 0)
    for ready in rounds:
        picked = turns.pick(ready)
        assert picked in ready
        for signal in PRIORITY:
            waited[signal] = waited[signal] + 1 if signal in ready and signal is not picked else 0
            assert waited[signal] < PATIENCE + len(PRIORITY)


def test_a_busy_signal_gets_most_batches_until_the_others_have_waited() -> None:
    turns = SignalTurns()
    picked = [turns.pick({Signal.METRICS, Signal.TRACES}) for _ in range(2 * (PATIENCE + 1))]
    assert picked == 2 * ([Signal.METRICS] * PATIENCE + [Signal.TRACES])


def test_a_backlog_and_the_newest_entries_take_turns() -> None:
    replay = Replay(100)
    unread = Intervals([(1, 103)])
    chosen = []
    for _ in range(6):
        first, last = replay.choose(unread.spans)
        chosen.append((first, last))
        unread = unread.remove(first, first)
    assert chosen == [(1, 99), (100, 103), (2, 99), (101, 103), (3, 99), (102, 103)]


def test_an_old_live_end_becomes_backlog() -> None:
    replay = Replay(1)
    replay.was_read(1, 0, now_ns=LIVE_LAG_NS + 1, head=50, fragments=1)
    assert replay.split == 50
    replay.was_read(50, 0, now_ns=LIVE_LAG_NS, head=60, fragments=1)
    assert replay.split == 50
    replay.was_read(50, 0, now_ns=2 * LIVE_LAG_NS, head=60, fragments=FRAGMENTS)
    assert replay.split == 50
    replay.was_read(10, 0, now_ns=2 * LIVE_LAG_NS, head=60, fragments=1)
    assert replay.split == 50


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_everything_is_read_once_and_positions_stay_short(data: st.DataObject) -> None:
    head = data.draw(st.integers(1, 40))
    replay, taken, now = Replay(head), Intervals(), 0
    read: list[int] = []
    arrived = dict.fromkeys(range(1, head), 0)
    for _ in range(25):
        for _ in range(data.draw(st.integers(0, 3))):
            arrived[head] = now
            head += 1
        now += data.draw(st.sampled_from([0, LIVE_LAG_NS // 3, 2 * LIVE_LAG_NS]))
        gaps = taken.gaps(1, head - 1)
        if gaps:
            first, last = replay.choose(gaps)
            assert any(begin <= first <= last <= end for begin, end in gaps)
            last = min(last, first + data.draw(st.integers(0, 4)))
            read += range(first, last + 1)
            taken = taken.add(first, last)
            gaps = taken.gaps(1, head - 1)
            replay.was_read(first, arrived[first], now_ns=now, head=head, fragments=len(gaps))
            assert len(gaps) <= FRAGMENTS + 1
    while gaps := taken.gaps(1, head - 1):
        first, last = replay.choose(gaps)
        read += range(first, last + 1)
        taken = taken.add(first, last)
    assert sorted(read) == list(range(1, head))
