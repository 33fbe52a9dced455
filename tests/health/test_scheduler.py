"""Continuous checks, in virtual time with commands that take as long as told, and against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.health.checks import Check, CheckTiming, ExecCheck, HttpCheck, TcpCheck
from syntra.health.probes import ExecOutcome
from syntra.health.result import ProbeResult
from syntra.health.scheduler import SLOW_SECS, HealthScheduler, Target, Transition, slack_secs
from syntra.model.status import Health
from syntra.utils.errors import AgentError
from tests.agent.virtual_time import VirtualLoop, now

pytestmark = pytest.mark.virtual_time

UNKNOWN, HEALTHY, UNHEALTHY = Health.UNKNOWN, Health.HEALTHY, Health.UNHEALTHY
EPSILON = 1e-6


class Containers:
    """Commands in all containers: what they answer, how long they take, when they were run and how many at once."""

    def __init__(self) -> None:
        self.took: dict[Hashable, float] = defaultdict(float)
        self.broken: dict[Hashable, bool] = defaultdict(bool)
        self.begun: dict[Hashable, list[float]] = defaultdict(list)
        self.cancelled: list[Hashable] = []
        self.now = 0
        self.most = 0

    def of(self, key: Hashable) -> OneContainer:
        return OneContainer(self, key)


class OneContainer:
    def __init__(self, containers: Containers, key: Hashable) -> None:
        self._all = containers
        self._key = key

    async def run(self, argv: Sequence[str], *, timeout_secs: float, output_limit: int) -> ExecOutcome:
        everything = self._all
        everything.begun[self._key].append(now())
        everything.now += 1
        everything.most = max(everything.most, everything.now)
        try:
            async with asyncio.timeout(timeout_secs):
                await asyncio.sleep(everything.took[self._key])
        except asyncio.CancelledError:
            everything.cancelled.append(self._key)
            raise
        finally:
            everything.now -= 1
        return ExecOutcome(exit_code=int(everything.broken[self._key]), output=b"")


class Rig:
    """A scheduler over such containers, and what it reported."""

    def __init__(self, at_once: int = 20, *, seed: int = 1, recoveries: int = 2) -> None:
        self.containers = Containers()
        self.results: list[tuple[float, Hashable, ProbeResult]] = []
        self.turns: list[tuple[float, Hashable, Health, Health]] = []
        self.then: Callable[[Hashable], None] = lambda key: None
        self.scheduler = HealthScheduler(self._hear, now, random.Random(seed), at_once, recoveries=recoveries)

    def _hear(self, key: Hashable, result: ProbeResult, transition: Transition | None) -> None:
        self.results.append((now(), key, result))
        if transition is not None:
            assert transition.after is self.scheduler.state(key) and transition.reason == result.detail
            self.turns.append((now(), key, transition.before, transition.after))
        self.then(key)

    def target(self, key: Hashable, **changes: Any) -> Target:
        timing = {"interval_secs": 10.0, "timeout_secs": 5.0, "retries": 3, "start_period_secs": 0.0}
        timing |= {name: changes.pop(name) for name in list(changes) if name in timing}
        made = Target(
            key=key,
            address="",
            check=ExecCheck(argv=("probe",)),
            timing=CheckTiming(**timing),  # type: ignore[arg-type]  # the tests name real fields
            executor=self.containers.of(key),
        )
        return dataclasses.replace(made, **changes)

    def put(self, key: Hashable, **changes: Any) -> None:
        self.scheduler.put(self.target(key, **changes))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.scheduler.run(), name="health")
            try:
                yield
            finally:
                task.cancel()
        assert task.cancelled() and self.containers.now == 0

    async def run_for(self, secs: float) -> None:
        async with self.running():
            await asyncio.sleep(secs)

    def turned(self) -> list[tuple[Hashable, Health]]:
        return [(key, after) for _, key, _, after in self.turns]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


async def test_the_first_probe_comes_soon_and_the_second_within_an_interval(rig: Rig) -> None:
    async with rig.running():
        began = now()
        for key in range(200):
            rig.put(key)
        await asyncio.sleep(11.0 + EPSILON)
    for begun in rig.containers.begun.values():
        assert begun[0] - began <= 1.0 + EPSILON
        assert 0 < begun[1] - begun[0] <= 10.0 + EPSILON
    assert len(rig.containers.begun) == 200


async def test_the_first_probe_comes_within_the_interval_when_that_is_short(rig: Rig) -> None:
    async with rig.running():
        began = now()
        for key in range(50):
            rig.put(key, interval_secs=0.1)
        await asyncio.sleep(0.1 + EPSILON)
        assert all(begun[0] - began <= 0.1 + EPSILON for begun in rig.containers.begun.values())
        assert len(rig.containers.begun) == 50


async def test_targets_put_at_one_moment_are_spread_over_the_time(rig: Rig) -> None:
    async with rig.running():
        for key in range(500):
            rig.put(key)
        await asyncio.sleep(60)
    seconds: dict[int, int] = defaultdict(int)
    for begun in rig.containers.begun.values():
        for at in begun[1:]:
            seconds[int(at)] += 1
    # Every other second, 100 each: waking up costs more than the probe.
    assert {second % 2 for second in seconds} == {min(seconds) % 2}
    assert max(seconds.values()) <= 125


async def test_over_hours_the_rhythm_does_not_drift_though_probes_take_time(rig: Rig) -> None:
    rig.put("a")
    rig.containers.took["a"] = 0.7
    await rig.run_for(10_000)
    begun = rig.containers.begun["a"]
    phases = [(at - begun[1]) % 10.0 for at in begun[1:]]
    assert all(min(phase, 10 - phase) <= 0.5 + EPSILON for phase in phases)
    assert len(begun) in (1000, 1001, 1002) and rig.scheduler.missed == 0


async def test_a_slow_target_is_never_asked_twice_at_once_and_what_passed_is_left_out(rig: Rig) -> None:
    rig.put("a", interval_secs=1.0, timeout_secs=60.0)
    rig.containers.took["a"] = 2.5
    await rig.run_for(100)
    begun = rig.containers.begun["a"]
    gaps = {round(b - a, 1) for a, b in itertools.pairwise(begun[1:])}
    assert rig.containers.most == 1 and gaps <= {2.9, 3.0, 3.1}
    assert rig.scheduler.missed >= 60


async def test_targets_that_hang_do_not_delay_those_that_answer() -> None:
    rig = Rig(at_once=8)
    for key in range(30):
        rig.put(("hangs", key))
        rig.containers.took["hangs", key] = 1000.0
    async with rig.running():
        await asyncio.sleep(60)
        for key in range(100):
            rig.put(("answers", key))
        began = now()
        await asyncio.sleep(300)
    assert rig.containers.most == 8
    for key in range(100):
        begun = rig.containers.begun["answers", key]
        phases = [(at - begun[1]) % 10.0 for at in begun[1:]]
        assert begun[0] - began <= 1.0 + EPSILON
        assert all(min(phase, 10 - phase) <= 0.5 + EPSILON for phase in phases) and len(begun) >= 29
    # Six of the eight slots hang for 5 s each: all thirty get their turn, and one after the other.
    counts = [len(rig.containers.begun["hangs", key]) for key in range(30)]
    assert min(counts) >= 10 and max(counts) <= 2 * min(counts)


async def test_the_only_slot_goes_round() -> None:
    rig = Rig(at_once=1)
    for key in "abc":
        rig.put(key)
        rig.containers.took[key] = 2.0
    await rig.run_for(60)
    assert rig.containers.most == 1 and min(len(rig.containers.begun[key]) for key in "abc") >= 5


async def test_a_slow_target_that_recovers_is_fast_again() -> None:
    rig = Rig(at_once=4)
    for key in range(20):
        rig.put(key)
        rig.containers.took[key] = SLOW_SECS * 2
    async with rig.running():
        await asyncio.sleep(30)
        assert rig.containers.most == 4
        rig.containers.took.clear()
        await asyncio.sleep(20)
        missed = rig.scheduler.missed
        await asyncio.sleep(100)
        assert rig.scheduler.missed == missed


async def test_failures_turn_it_after_retries_and_successes_after_recoveries(rig: Rig) -> None:
    rig.put("a")
    async with rig.running():
        await asyncio.sleep(30)
        assert rig.turned() == [("a", HEALTHY)] and rig.scheduler.state("a") is HEALTHY
        rig.containers.broken["a"] = True
        await asyncio.sleep(31)
        assert rig.turned()[1:] == [("a", UNHEALTHY)]
        unhealthy_at = rig.turns[-1][0]
        assert [result.ok for at, _, result in rig.results if at <= unhealthy_at][-4:] == [True, False, False, False]
        rig.containers.broken["a"] = False
        await asyncio.sleep(21)
        assert rig.turned()[2:] == [("a", HEALTHY)]
        healthy_at = rig.turns[-1][0]
        assert [result.ok for at, _, result in rig.results if at <= healthy_at][-3:] == [False, True, True]


async def test_one_failure_or_one_success_turns_nothing(rig: Rig) -> None:
    rig.then = lambda key: rig.containers.broken.update({key: len(rig.results) % 3 == 1})
    rig.put("a")
    await rig.run_for(300)
    assert rig.turned() == [("a", HEALTHY)]


async def test_failures_in_the_start_period_are_reported_and_do_not_count(rig: Rig) -> None:
    rig.containers.broken["a"] = True
    began = now()
    rig.put("a", start_period_secs=60.0, retries=1)
    await rig.run_for(80)
    at, key, before, after = rig.turns[0]
    assert (key, before, after) == ("a", UNKNOWN, UNHEALTHY) and 60 <= at - began <= 70.5
    assert len([result for at, _, result in rig.results if at < began + 60]) >= 5


async def test_a_success_ends_the_start_period(rig: Rig) -> None:
    rig.put("a", start_period_secs=3600.0, retries=2)
    async with rig.running():
        await asyncio.sleep(1.1)
        rig.containers.broken["a"] = True
        await asyncio.sleep(30)
    assert rig.turned() == [("a", HEALTHY), ("a", UNHEALTHY)]


async def test_a_failure_counts_from_one_interval_after_the_start_on(rig: Rig) -> None:
    rig.containers.broken["a"] = True
    began = now()
    rig.put("a", retries=1)
    await rig.run_for(21)
    assert rig.turned() == [("a", UNHEALTHY)] and rig.turns[0][0] - began >= 10


async def test_a_replica_that_passed_its_gate_begins_healthy_and_without_start_period(rig: Rig) -> None:
    rig.containers.broken["a"] = True
    rig.put("a", health=HEALTHY, start_period_secs=3600.0, retries=2)
    assert rig.scheduler.state("a") is HEALTHY
    await rig.run_for(12)
    assert rig.turned() == [("a", UNHEALTHY)]


async def test_a_gate_s_answer_makes_a_target_healthy_at_once_and_is_reported_once(rig: Rig) -> None:
    rig.containers.broken["a"] = True
    rig.put("a", process=1, retries=2, start_period_secs=3600.0)
    passed = ProbeResult(ok=True, detail="HTTP 200", duration_secs=0.0)
    async with rig.running():
        await asyncio.sleep(1.1)
        assert (len(rig.results), rig.scheduler.state("a")) == (1, UNKNOWN)
        assert not rig.scheduler.passed("a", 2, passed), "another process"
        assert not rig.scheduler.passed("b", 1, passed), "no such target"
        assert rig.scheduler.passed("a", 1, passed) and rig.scheduler.passed("a", 1, passed)
        assert rig.turned() == [("a", HEALTHY)] and rig.results[1:] == [(now(), "a", passed)]
        await asyncio.sleep(21)
    assert rig.turned() == [("a", HEALTHY), ("a", UNHEALTHY)], "failures count from then on"


async def test_the_same_target_put_again_keeps_its_rhythm_and_takes_the_new_executor(rig: Rig) -> None:
    rig.put("a")
    other = Containers()
    async with rig.running():
        await asyncio.sleep(30)
        before = rig.containers.begun["a"]
        for _ in range(20):
            await asyncio.sleep(1.0)
            rig.scheduler.set_targets({"a": dataclasses.replace(rig.target("a"), executor=other.of("a"))})
        assert len(other.begun["a"]) == 2
        assert abs((other.begun["a"][0] - before[-1]) - 10) <= 0.5 + EPSILON
    assert rig.turned() == [("a", HEALTHY)]


async def test_another_check_applies_at_once_and_keeps_the_condition_until_it_has_decided(rig: Rig) -> None:
    rig.put("a", interval_secs=3600.0)
    async with rig.running():
        await asyncio.sleep(5)
        assert rig.scheduler.state("a") is HEALTHY
        rig.containers.broken["a"] = True
        changed = now()
        rig.put("a", check=ExecCheck(argv=("other",)), interval_secs=2.0, retries=2)
        assert rig.scheduler.state("a") is HEALTHY
        await asyncio.sleep(1.0 + EPSILON)
        assert rig.containers.begun["a"][-1] >= changed
        await asyncio.sleep(5)
    assert rig.turned() == [("a", HEALTHY), ("a", UNHEALTHY)]


@pytest.mark.parametrize("change", [{"process": 2}, {"address": "10.0.0.9"}])
async def test_another_process_or_address_is_judged_from_the_beginning(rig: Rig, change: dict[str, Any]) -> None:
    rig.put("a", process=1, start_period_secs=30.0)
    async with rig.running():
        await asyncio.sleep(5)
        rig.containers.broken["a"] = True
        changed = now()
        rig.put("a", **{"process": 1, "start_period_secs": 30.0, "retries": 1, **change})
        assert rig.scheduler.state("a") is UNKNOWN
        await asyncio.sleep(45)
    assert rig.turned() == [("a", HEALTHY), ("a", UNHEALTHY)] and rig.turns[1][0] - changed >= 30


async def test_removing_a_target_ends_its_probe_and_reports_nothing(rig: Rig) -> None:
    rig.containers.took["a"] = 3.0
    async with rig.running():
        rig.put("a")
        rig.put("b")
        await asyncio.sleep(1.1)
        rig.scheduler.remove("a")
        rig.scheduler.remove("never there")
        await asyncio.sleep(100)
        assert rig.scheduler.state("a") is UNKNOWN
    assert rig.containers.cancelled == ["a"] and len(rig.containers.begun["a"]) == 1
    assert {key for _, key, _ in rig.results} == {"b"}


async def test_removing_a_target_whose_probe_has_not_taken_a_step_frees_its_slot() -> None:
    rig = Rig(at_once=1)
    rig.put("a", interval_secs=1000.0)

    def listen(key: Hashable) -> None:
        rig.put("b", interval_secs=0.001)
        rig.put("c", interval_secs=0.001)

    rig.then = listen
    async with rig.running():
        for _ in range(50):
            await asyncio.sleep(0.001)
            for key in "bc":
                rig.scheduler.remove(key)
                rig.put(key, interval_secs=0.001)
        rig.then = lambda key: None
        await asyncio.sleep(1)
    assert rig.containers.most == 1 and {"a", "b", "c"} <= {key for _, key, _ in rig.results}


async def test_a_target_removed_while_it_waits_for_a_slot_is_not_asked() -> None:
    rig = Rig(at_once=1)
    rig.put("hangs")
    rig.containers.took["hangs"] = 1000.0
    async with rig.running():
        await asyncio.sleep(1.1)
        for key in range(100):
            rig.put(key)
        await asyncio.sleep(1.5)
        rig.scheduler.set_targets({})
        await asyncio.sleep(20)
    assert set(rig.containers.begun) == {"hangs"} and rig.results == []


async def test_a_listener_may_remove_and_change_what_it_hears_of(rig: Rig) -> None:
    def listen(key: Hashable) -> None:
        if key == "removed":
            rig.scheduler.remove(key)
        elif key == "changed":
            rig.put("changed", interval_secs=10.0 + len(rig.results))

    rig.then = listen
    rig.put("removed")
    rig.put("changed")
    rig.put("kept")
    await rig.run_for(30)
    heard = [key for _, key, _ in rig.results]
    assert heard.count("removed") == 1 and heard.count("changed") >= 15 and heard.count("kept") >= 3


async def test_set_targets_makes_these_all_there_are(rig: Rig) -> None:
    for key in "abc":
        rig.put(key)
    async with rig.running():
        await asyncio.sleep(5)
        rig.scheduler.set_targets({key: rig.target(key) for key in "bcd"})
        mark = len(rig.results)
        await asyncio.sleep(20)
    assert {key for _, key, _ in rig.results[mark:]} == {"b", "c", "d"}
    assert rig.turned() == [*[(key, HEALTHY) for _, key, _, _ in rig.turns[:3]], ("d", HEALTHY)]
    with pytest.raises(AgentError, match="the keys differ"):
        rig.scheduler.set_targets({"x": rig.target("y")})


async def test_it_sleeps_when_there_is_nothing_and_wakes_for_the_first_target(rig: Rig) -> None:
    async with rig.running():
        await asyncio.sleep(1000)
        rig.put("a")
        await asyncio.sleep(1.1)
    assert rig.turned() == [("a", HEALTHY)]


async def test_it_can_be_run_again_and_remembers_conditions(rig: Rig) -> None:
    rig.put("a")
    rig.containers.took["a"] = 0.3
    for _ in range(5):
        async with rig.running():
            await asyncio.sleep(1.05)  # cuts probes off, too
            with pytest.raises(AgentError, match="they run already"):
                await rig.scheduler.run()
        await asyncio.sleep(50)
    assert rig.turned() == [("a", HEALTHY)]
    mark = len(rig.results)
    await rig.run_for(60)
    assert len(rig.results) - mark >= 5


async def test_an_executor_that_raises_anything_is_one_failed_result(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def run(self, argv: Sequence[str], *, timeout_secs: float, output_limit: int) -> ExecOutcome:
            raise ValueError("secret")

    rig.put("a", executor=Broken())
    rig.put("b")
    await rig.run_for(30)
    assert {result.detail for _, key, result in rig.results if key == "a"} == {"the probe itself broke: ValueError"}
    assert [key for _, key, _ in rig.results].count("b") >= 3


async def test_a_listener_that_raises_ends_the_run_and_every_probe() -> None:
    rig = Rig(at_once=5)
    for key in range(50):
        rig.put(key)
        rig.containers.took[key] = 0.1

    def listen(key: Hashable) -> None:
        if len(rig.results) == 30:
            raise LookupError("a bug")

    rig.then = listen
    with pytest.raises(ExceptionGroup) as raised:
        await rig.scheduler.run()
    assert raised.group_contains(LookupError) and rig.containers.now == 0


async def test_what_was_removed_does_not_pile_up(rig: Rig) -> None:
    async with rig.running():
        for turn in range(3000):
            rig.put("a", interval_secs=86_400.0 + turn)
            if turn % 100 == 0:
                await asyncio.sleep(2)
        assert len(rig.scheduler._heap) <= 200


@pytest.mark.parametrize("wrong", [{"at_once": 0}, {"recoveries": 0}])
def test_settings_without_a_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="cannot schedule health checks"):
        HealthScheduler(lambda key, result, transition: None, lambda: 0.0, random.Random(1), **wrong)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "remove", "restart"]),
        st.integers(0, 7),
        st.sampled_from([0.2, 1.0, 3.0, 10.0]),  # interval
        st.sampled_from([0.0, 0.05, 0.4, 2.0, 100.0]),  # what the command takes
        st.floats(0.0, 5.0),  # until the next move
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(moves=MOVES, at_once=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_never_more_at_once_no_drift_and_nothing_of_what_was_removed(
    moves: list[tuple[str, int, float, float, float]], at_once: int, seed: int
) -> None:
    async def main() -> None:
        rig = Rig(at_once, seed=seed)
        there: dict[int, tuple[float, int]] = {}
        process = 0

        def listen(key: Hashable) -> None:
            assert key in there, "a removed target was reported"

        rig.then = listen
        async with rig.running():
            for what, key, interval, took, pause in moves:
                if what == "remove":
                    rig.scheduler.remove(key)
                    there.pop(key, None)
                else:
                    if what == "restart" or key not in there or there[key][0] != interval:
                        process += 1
                        there[key] = (interval, process)
                        rig.containers.begun[key].clear()
                    rig.containers.took[key] = took
                    rig.put(key, interval_secs=interval, process=there[key][1])
                await asyncio.sleep(pause)
            rig.containers.took.clear()
            await asyncio.sleep(25)  # what hangs has ended, and everybody has had a turn
            for key in there:
                del rig.containers.begun[key][:]
            await asyncio.sleep(40)
        assert rig.containers.most <= at_once
        assert set(rig.containers.begun) >= set(there)
        for key, (interval, _) in there.items():
            begun = rig.containers.begun[key]
            slack = slack_secs(interval) + EPSILON
            first = begun[0]
            for number, at in enumerate(begun):
                assert abs(at - first - number * interval) <= slack

    in_virtual_time(main())


@contextlib.asynccontextmanager
async def web(answers: Callable[[], bytes]) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A real server; every request head it read."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answers())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        await server.wait_closed()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown"


class Heard:
    """Results of a scheduler in real time, to be waited for."""

    def __init__(self) -> None:
        self.turns: list[tuple[Hashable, Health]] = []
        self.details: dict[Hashable, str] = {}
        self._changed = asyncio.Event()
        self.scheduler = HealthScheduler(self._hear, asyncio.get_running_loop().time, random.Random(3))

    def _hear(self, key: Hashable, result: ProbeResult, transition: Transition | None) -> None:
        self.details[key] = result.detail
        if transition:
            self.turns.append((key, transition.after))
        self._changed.set()

    def put(self, key: Hashable, check: Check, interval: float = 0.02) -> None:
        timing = CheckTiming(interval_secs=interval, timeout_secs=2.0, retries=2, start_period_secs=0.0)
        self.scheduler.put(Target(key=key, address="127.0.0.1", check=check, timing=timing))

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(self.scheduler.run(), name="health")
            while not ready():
                self._changed.clear()
                await self._changed.wait()
            task.cancel()


@pytest.mark.virtual_time(False)
async def test_a_real_server_turns_unhealthy_and_recovers() -> None:
    answer = [OK]
    async with web(lambda: answer[0]) as (port, heads):
        heard = Heard()
        heard.put("web", HttpCheck(path="/health", port=port))
        heard.put("port", TcpCheck(port=port))
        await heard.until(lambda: len(heard.turns) == 2)
        answer[0] = BROKEN
        await heard.until(lambda: heard.turns[2:] == [("web", UNHEALTHY)])
        assert heard.details["web"].endswith("/health: down")
        answer[0] = OK
        await heard.until(lambda: heard.turns[3:] == [("web", HEALTHY)])
    assert all(b"\r\nConnection: close\r\n" in head for head in heads)


@pytest.mark.virtual_time(False)
async def test_a_real_server_that_is_gone_turns_unhealthy() -> None:
    heard = Heard()
    async with web(lambda: OK) as (port, _):
        heard.put("web", HttpCheck(path="/", port=port))
        await heard.until(lambda: heard.turns == [("web", HEALTHY)])
    await heard.until(lambda: heard.turns[1:] == [("web", UNHEALTHY)])
    assert heard.details["web"] == f"connection refused at 127.0.0.1:{port}"


@pytest.mark.virtual_time(False)
async def test_five_hundred_real_targets_are_all_asked() -> None:
    async with web(lambda: OK) as (port, heads):
        heard = Heard()
        for key in range(500):
            heard.put(key, HttpCheck(path=f"/{key}", port=port), interval=0.3)
        await heard.until(lambda: len(heard.turns) == 500)
        assert {after for _, after in heard.turns} == {HEALTHY}
    assert len({head.split(b" ")[1] for head in heads}) == 500


async def test_five_hundred_targets_of_which_a_tenth_hangs_keep_their_rhythm(rig: Rig) -> None:
    for key in range(500):
        rig.put(key)
        rig.containers.took[key] = 1000.0 if key % 10 == 0 else 0.002
    async with rig.running():
        await asyncio.sleep(120)
        began = now()
        await asyncio.sleep(100)
    assert rig.containers.most <= 20
    for key in range(500):
        begun = [at for at in rig.containers.begun[key] if at >= began]
        if key % 10:
            assert len(begun) in (9, 10, 11)
            assert all(abs(b - a - 10) <= 0.5 + EPSILON for a, b in itertools.pairwise(begun))
