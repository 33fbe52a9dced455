"""The startup gate and the steady verdict, in virtual time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.health.checks import CheckTiming
from syntra.health.result import ProbeResult
from syntra.health.verdict import Observation, StartupGate, SteadyVerdict, Verdict, VerdictState
from syntra.model.status import Health
from syntra.utils.errors import AgentError

PENDING, HEALTHY, FAILED = VerdictState.PENDING, VerdictState.HEALTHY, VerdictState.FAILED
TIMING = CheckTiming(interval_secs=10, timeout_secs=5, retries=3, start_period_secs=0)
PASS = ProbeResult(ok=True, detail="HTTP 200", status_code=200, duration_secs=0.01)
FAIL = ProbeResult(ok=False, detail="connection refused at 172.18.0.2:8080", duration_secs=0.01)


def look(at: float, status: str = "running", **changes: object) -> Observation:
    base = Observation(
        at=at,
        running=status in ("running", "restarting", "paused"),
        restart_count=0,
        started_at_ns=1_000,
        exit_code=0,
        oom_killed=False,
        status=status,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]  # the tests name real fields


def run(gate: StartupGate, observations: Sequence[Observation]) -> list[VerdictState]:
    return [gate.observe(observation).state for observation in observations]


def timing(**changes: float) -> CheckTiming:
    return dataclasses.replace(TIMING, **changes)  # type: ignore[arg-type]  # the tests name real fields


def again(at: float, **changes: object) -> Observation:
    """Up, after one restart."""
    return dataclasses.replace(look(at, restart_count=1, started_at_ns=2_000), **changes)  # type: ignore[arg-type]  # as above


SCENARIOS = {
    "without a check, up long enough": (None, 5.0, [look(0), look(4.9), look(5.0)], [PENDING, PENDING, HEALTHY]),
    "without a check and without a minimum, the first look is enough": (None, 0.0, [look(0)], [HEALTHY]),
    "without a check, probes are not asked": (None, 0.0, [look(0, probe=FAIL)], [HEALTHY]),
    "created is waited for, and the hold begins when it is up": (
        None,
        5.0,
        [look(0, "created", started_at_ns=None), look(3), look(7.9), look(8)],
        [PENDING, PENDING, PENDING, HEALTHY],
    ),
    "an exit fails at once": (None, 5.0, [look(0), look(1, "exited", exit_code=1)], [PENDING, FAILED]),
    "a clean exit fails too": (TIMING, 0.0, [look(0, "exited", exit_code=0)], [FAILED]),
    "dead fails": (TIMING, 0.0, [look(0, "dead", exit_code=137)], [FAILED]),
    "removed fails": (TIMING, 0.0, [look(0), look(1, "removed", exit_code=None)], [PENDING, FAILED]),
    "a taken port leaves it created with an error": (
        TIMING,
        0.0,
        [look(0, "created", exit_code=128, error="port is already allocated")],
        [FAILED],
    ),
    "an unknown word while nothing runs fails": (None, 0.0, [look(0, "stopped")], [FAILED]),
    "running alone never proves health in a crash loop": (
        None,
        3.0,
        [
            look(0),
            look(1, "restarting", restart_count=1, exit_code=3),
            look(2, restart_count=1, started_at_ns=2_000),
            look(4.9, restart_count=1, started_at_ns=2_000),
            look(4.95, "restarting", restart_count=2, started_at_ns=2_000, exit_code=3),
        ],
        [PENDING, PENDING, PENDING, PENDING, FAILED],
    ),
    "one restart resets the hold and may still become healthy": (
        None,
        3.0,
        [look(0), again(2.9), again(5.8), again(5.9)],
        [PENDING, PENDING, PENDING, HEALTHY],
    ),
    "count and start time of one restart, seen apart, are one restart": (
        None,
        3.0,
        [look(0), look(1, restart_count=1), again(2), again(4.9), again(5)],
        [PENDING, PENDING, PENDING, PENDING, HEALTHY],
    ),
    "start times alone prove a crash loop": (
        None,
        3.0,
        [look(0), look(1, started_at_ns=2_000), look(2, started_at_ns=3_000)],
        [PENDING, PENDING, FAILED],
    ),
    "several restarts between two looks": (None, 3.0, [look(0), look(1, restart_count=4)], [PENDING, FAILED]),
    "restarts from before the first sight do not count": (
        None,
        1.0,
        [look(0, restart_count=7), look(1, restart_count=7)],
        [PENDING, HEALTHY],
    ),
    "a count that falls back to zero begins anew": (
        None,
        9.0,
        [look(0, restart_count=5), look(1, restart_count=0), look(2, restart_count=1)],
        [PENDING, PENDING, PENDING],
    ),
    "a passing check without a minimum is healthy at once": (TIMING, 0.0, [look(0.1, probe=PASS)], [HEALTHY]),
    "up but never probed proves nothing": (TIMING, 0.0, [look(0), look(500)], [PENDING, PENDING]),
    "a passing check must hold": (
        TIMING,
        5.0,
        [look(0, probe=PASS), look(4, probe=PASS), look(5, probe=PASS)],
        [PENDING, PENDING, HEALTHY],
    ),
    "the hold ends with a passing probe, not with a look": (
        TIMING,
        5.0,
        [look(0, probe=PASS), look(6), look(7, probe=PASS)],
        [PENDING, PENDING, HEALTHY],
    ),
    "a failure breaks the hold": (
        TIMING,
        5.0,
        [look(0, probe=PASS), look(4, probe=FAIL), look(6, probe=PASS), look(10.9, probe=PASS), look(11, probe=PASS)],
        [PENDING, PENDING, PENDING, PENDING, HEALTHY],
    ),
    "a restart breaks the hold although every probe passes": (
        TIMING,
        5.0,
        [look(0, probe=PASS), *(again(at, probe=PASS) for at in (4, 8.9, 9))],
        [PENDING, PENDING, PENDING, HEALTHY],
    ),
    "a passing probe of a paused or restarting container counts for nothing": (
        TIMING,
        0.0,
        [look(0, "paused", probe=PASS), look(1, "restarting", probe=PASS)],
        [PENDING, PENDING],
    ),
    "retries failures, an interval apart": (
        TIMING,
        0.0,
        [look(0, probe=FAIL), look(10, probe=FAIL), look(20, probe=FAIL), look(30, probe=FAIL)],
        [PENDING, PENDING, PENDING, FAILED],
    ),
    "fast early probes do not use up the retries": (
        TIMING,
        0.0,
        [look(at / 40, probe=FAIL) for at in range(399)] + [look(9.98, probe=PASS)],
        [PENDING] * 399 + [HEALTHY],
    ),
    "failures in the start period do not count": (
        timing(start_period_secs=60, retries=1),
        0.0,
        [look(0, probe=FAIL), look(59.9, probe=FAIL), look(60, probe=FAIL)],
        [PENDING, PENDING, FAILED],
    ),
    "a success in the start period is healthy at once": (
        timing(start_period_secs=60),
        0.0,
        [look(0, probe=FAIL), look(3, probe=PASS)],
        [PENDING, HEALTHY],
    ),
    "a success between failures starts the count anew": (
        timing(retries=2),
        30.0,
        [look(10, probe=FAIL), look(20, probe=FAIL), look(25, probe=PASS), look(30, probe=FAIL), look(40, probe=FAIL)],
        [PENDING, PENDING, PENDING, PENDING, FAILED],
    ),
    "a restart gives a new start period": (
        timing(start_period_secs=20, retries=1),
        0.0,
        [look(0, probe=FAIL), *(again(at, probe=FAIL) for at in (19, 38.9, 39))],
        [PENDING, PENDING, PENDING, FAILED],
    ),
    "a clock that steps back does not lengthen or shorten the hold": (
        None,
        5.0,
        [look(10), look(3), look(14.9), look(15)],
        [PENDING, PENDING, PENDING, HEALTHY],
    ),
    "healthy is taken back when the container goes": (
        None,
        0.0,
        [look(0), look(1, "paused"), look(2), look(3, "exited", exit_code=2), look(4)],
        [HEALTHY, PENDING, HEALTHY, FAILED, FAILED],
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_gate_decides_as_the_scenario_says(name: str) -> None:
    check_timing, min_healthy, observations, expected = SCENARIOS[name]
    assert run(StartupGate(check_timing, min_healthy), observations) == expected


REASONS = [
    (look(0, "exited", exit_code=3), "the container exited with code 3"),
    (
        look(0, "exited", exit_code=137, oom_killed=True),
        "the container ran out of memory and was killed, exited with code 137",
    ),
    (
        look(0, "created", exit_code=128, error="port is already allocated"),
        "the container did not start: exited with code 128: port is already allocated",
    ),
    (
        look(0, "created", exit_code=0, error="no such device"),
        "the container did not start: is created: no such device",
    ),
    (look(0, "removed", exit_code=None), "the container was removed"),
    (look(0, "dead", exit_code=None), "the container is dead"),
    (look(0, "", running=False, exit_code=None), "the container is not running"),
]


@pytest.mark.parametrize(("observation", "reason"), REASONS)
def test_a_failure_says_how_the_container_ended(observation: Observation, reason: str) -> None:
    assert StartupGate(TIMING, 0).observe(observation).reason == reason


def test_a_crash_loop_says_how_often_and_how_it_last_ended() -> None:
    gate = StartupGate(None, 5)
    gate.observe(look(0))
    gate.observe(look(1, "restarting", restart_count=1, exit_code=137, oom_killed=True))
    verdict = gate.observe(look(2, restart_count=2))
    assert verdict.reason == (
        "crash loop: restarted 2 times, last time it ran out of memory and was killed, exited with code 137"
    )


def test_a_failed_check_says_what_the_last_probe_saw() -> None:
    verdict = StartupGate(timing(retries=1, start_period_secs=0), 0)
    assert "connection refused" in verdict.observe(look(0, probe=FAIL)).reason
    assert verdict.observe(look(10, probe=FAIL)).reason == (
        "the health check failed once: connection refused at 172.18.0.2:8080"
    )


def test_a_long_engine_error_is_cut() -> None:
    verdict = StartupGate(None, 0).observe(look(0, "exited", exit_code=1, error="x" * 5000))
    assert len(verdict.reason.encode()) <= 512


def test_probes_come_at_once_and_then_a_quarter_of_the_time_so_far_apart_up_to_the_interval() -> None:
    gate = StartupGate(timing(interval_secs=1.0, start_period_secs=100), 0)
    began = at = 7.0
    assert gate.observe(look(at)).next_probe_at == at
    gaps = []
    while at < began + 8:
        after = gate.observe(look(at, probe=FAIL)).next_probe_at
        assert after is not None
        assert after - at == pytest.approx(min(max((at - began) / 4, 0.01), 1.0))
        gaps.append(round(after - at, 3))
        at = after
    assert gaps[:5] == [0.01] * 5
    assert gaps[-3:] == [1.0, 1.0, 1.0] and len(gaps) < 40


def test_the_schedule_starts_over_after_a_restart() -> None:
    gate = StartupGate(TIMING, 0)
    for at in range(9):
        gate.observe(look(at, probe=FAIL))
    assert gate.observe(look(9, restart_count=1)).next_probe_at == 9


def test_the_end_of_the_hold_is_a_moment_to_probe() -> None:
    gate = StartupGate(TIMING, 0.03)
    assert gate.observe(look(1.0, probe=PASS)).next_probe_at == pytest.approx(1.025)
    assert gate.observe(look(1.025, probe=PASS)).next_probe_at == pytest.approx(1.03)
    assert gate.observe(look(1.03, probe=PASS)).state is HEALTHY


def test_without_a_check_looks_are_at_most_a_second_apart_and_end_with_the_hold() -> None:
    gate = StartupGate(None, 5.0)
    at, looks = 0.0, 0
    while (verdict := gate.observe(look(at))).state is PENDING:
        assert verdict.next_probe_at is not None and 0 < verdict.next_probe_at - at <= 1.0
        at, looks = verdict.next_probe_at, looks + 1
    assert at == pytest.approx(5.0) and looks < 15


def test_a_container_that_is_not_up_is_looked_at_ever_slower() -> None:
    gate = StartupGate(TIMING, 0)
    at, gaps = 0.0, []
    for _ in range(8):
        after = gate.observe(look(at, "created")).next_probe_at
        assert after is not None
        gaps.append(round(after - at, 3))
        at = after
    assert gaps == [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_service_that_never_answers_fails_after_retries_intervals_when_the_schedule_is_followed() -> None:
    gate = StartupGate(timing(start_period_secs=15), 0)
    at = 0.0
    while (verdict := gate.observe(look(at, probe=FAIL))).state is PENDING:
        assert verdict.next_probe_at is not None
        at = verdict.next_probe_at
    assert 15 + 2 * 10 <= at <= 15 + 3 * 10


def test_a_negative_minimum_is_refused() -> None:
    with pytest.raises(AgentError):
        StartupGate(None, -1)


probes = st.sampled_from([None, PASS, FAIL])
observations = st.builds(
    Observation,
    at=st.floats(0, 100),
    running=st.booleans(),
    restart_count=st.integers(0, 2),
    started_at_ns=st.sampled_from([None, 1, 2]),
    exit_code=st.sampled_from([None, 0, 1, 137]),
    oom_killed=st.booleans(),
    status=st.sampled_from(["created", "running", "running", "running", "paused", "restarting", "exited", "odd", ""]),
    error=st.sampled_from(["", "no space left"]),
    probe=probes,
)
timings = st.none() | st.builds(
    CheckTiming,
    interval_secs=st.floats(0.01, 20),
    timeout_secs=st.just(1.0),
    retries=st.integers(1, 4),
    start_period_secs=st.floats(0, 20),
)


@settings(max_examples=150, deadline=None)
@given(timings, st.floats(0, 20), st.lists(observations, max_size=25))
def test_healthy_is_never_said_of_what_is_not_running_and_failed_is_final(
    check_timing: CheckTiming | None, min_healthy: float, seen: list[Observation]
) -> None:
    gate = StartupGate(check_timing, min_healthy)
    final: Verdict | None = None
    latest = 0.0
    for observation in seen:
        verdict = gate.observe(observation)
        latest = max(latest, observation.at)
        assert verdict.reason and len(verdict.reason.encode()) <= 512
        if final is not None:
            assert verdict == final
        if verdict.state is HEALTHY:
            assert observation.running and observation.status == "running"
            assert check_timing is None or (observation.probe is not None and observation.probe.ok)
        if verdict.state is FAILED:
            assert verdict.next_probe_at is None
            final = verdict
        else:
            assert verdict.next_probe_at is not None
            assert observation.probe is None or verdict.state is HEALTHY or verdict.next_probe_at >= latest - 1e-6


@settings(max_examples=100, deadline=None)
@given(st.floats(0.1, 20), st.lists(st.tuples(st.floats(0.01, 5), st.booleans()), max_size=40))
def test_healthy_means_that_every_probe_passed_for_the_whole_minimum(
    min_healthy: float, steps: list[tuple[float, bool]]
) -> None:
    gate = StartupGate(timing(retries=1000), min_healthy)
    at, passing_since = 0.0, None
    for gap, ok in steps:
        at += gap
        passing_since = (at if passing_since is None else passing_since) if ok else None
        state = gate.observe(look(at, probe=PASS if ok else FAIL)).state
        held = -1.0 if passing_since is None else at - passing_since
        assert (state is HEALTHY) == (held + 1e-6 >= min_healthy)


def steady(verdict: SteadyVerdict, answers: str) -> str:
    letters = {Health.UNKNOWN: "?", Health.HEALTHY: "+", Health.UNHEALTHY: "-"}
    return "".join(letters[verdict.observe(PASS if answer == "p" else FAIL).health] for answer in answers)


@pytest.mark.parametrize(
    ("retries", "recoveries", "answers", "expected"),
    [
        (3, 1, "p", "+"),
        (3, 2, "p", "+"),
        (3, 1, "fff", "??-"),
        (1, 1, "pfpf", "+-+-"),
        (3, 1, "pffpffpfff", "+++++++++-"),
        (2, 3, "pffppfppp", "++------+"),
    ],
)
def test_the_steady_condition_turns_only_after_enough_equal_results(
    retries: int, recoveries: int, answers: str, expected: str
) -> None:
    assert steady(SteadyVerdict(retries=retries, recoveries=recoveries), answers) == expected


def test_a_change_is_told_once_and_with_the_last_reason() -> None:
    verdict = SteadyVerdict(retries=2, health=Health.HEALTHY)
    first, second, third = (verdict.observe(FAIL) for _ in range(3))
    assert [first.changed, second.changed, third.changed] == [False, True, False]
    assert second.reason == FAIL.detail and verdict.health is Health.UNHEALTHY


def test_a_container_that_is_down_is_unhealthy_at_once_and_recovers_by_successes() -> None:
    verdict = SteadyVerdict(retries=3, recoveries=2, health=Health.HEALTHY)
    change = verdict.down("exited with code 1")
    assert change.changed and change.health is Health.UNHEALTHY
    assert steady(verdict, "pp") == "-+"


def test_steady_thresholds_below_one_are_refused() -> None:
    with pytest.raises(AgentError):
        SteadyVerdict(retries=0)
