"""Canaries from the command to the report, on a fake engine and in virtual time: held, judged, steered, taken up."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.operations.canary import UNCOUNTED_SECS, CanaryTools
from syntra.agent.operations.job import OperationPhase
from syntra.model.container import ContainerState
from syntra.model.errors import RequestError
from syntra.model.ids import RequestId, ServiceId
from syntra.model.spec import Deployment
from syntra.model.status import Health
from syntra.networking.canary_requests import Answers
from syntra.networking.errors import ProxyUnreachable
from tests.agent.agent_rig import Agent, running, until_killed
from tests.agent.fake_engine import FakeEngine
from tests.agent.fake_readiness import FakeReadiness
from tests.agent.fake_traffic import FakeTraffic
from tests.agent.samples import deploy_payload
from tests.agent.virtual_time import now
from tests.on_loop import OnLoop

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")
REACHED: dict[str, Any] = {"networking": {"domains": ["web.example"]}}
FOUR: dict[str, Any] = {"config": {"replicas": 4}, **REACHED}


@dataclass
class FakeCounter:
    """A proxy's count that grows by `rate` requests a second, of which `bad` percent fail, while it is not `away`.

    `before` is what it had counted at `since`.
    """

    rate: float = 10.0
    bad: float = 0.0
    away: bool = False
    since: float = 0.0
    before: Answers = field(default_factory=Answers)

    async def answers(self, service_id: ServiceId) -> Answers:
        if self.away:
            raise ProxyUnreachable("cannot ask the proxy: it is away")
        total = self.rate * (now() - self.since)
        failed = round(total * self.bad / 100)
        return Answers(total=self.before.total + round(total), failed=self.before.failed + failed)


@dataclass
class Outside:
    """What an agent that is started again finds: the engine, the proxy, who judges."""

    adapter: FakeEngine = field(default_factory=FakeEngine)
    traffic: FakeTraffic = field(default_factory=FakeTraffic)
    judge: FakeReadiness = field(default_factory=FakeReadiness)
    counter: FakeCounter = field(default_factory=FakeCounter)
    has_metrics: bool = True

    @property
    def parts(self) -> dict[str, Any]:
        counter = self.counter if self.has_metrics else None
        return {"traffic": self.traffic, "canary": CanaryTools(readiness=self.judge, counter=counter)}

    def served(self) -> list[str]:
        """The deployment ids of what gets requests, in the order it was made."""
        return [
            c.deployment.deployment_id
            for c in self.adapter.of("web")
            if c.is_up and self.traffic.is_serving(c.container_id)
        ]


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def agent(tmp_path: Path, outside: Outside) -> OnLoop[Agent]:
    return OnLoop(running(tmp_path, outside.adapter, **outside.parts))


def canary(*steps: tuple[int, float], **canary: Any) -> dict[str, Any]:
    asked = {"steps": [{"percent": percent, "hold_seconds": secs} for percent, secs in steps]} if steps else {}
    return {"strategy": "canary", "canary": {**asked, **canary}, **FOUR}


async def held(agent: Agent, request_id: str, percent: int) -> None:
    """Return once the canary is held at that share."""
    while f"{percent} % of the requests, held" not in (await messages(agent, request_id))[-1]:
        await asyncio.sleep(0.5)


async def begin(agent: Agent, **changes: Any) -> None:
    """Deploy d1, and d2 as a canary that is held at 10 %."""
    await agent.deployed("d1", **FOUR)
    await agent.deploy("r", "d2", **changes)
    await held(agent, "r", 10)


async def messages(agent: Agent, request_id: str) -> list[str]:
    return [payload["message"] for kind, payload in await agent.said(request_id) if kind == "deploy_status"] or [""]


async def error_of(agent: Agent, request_id: str) -> str:
    return str((await agent.responses(request_id))[-1]["error"]["code"])


async def test_a_canary_grows_step_by_step_and_says_how_long_it_is_held(agent: Agent, outside: Outside) -> None:
    await agent.deployed("d1", **FOUR)
    begun = now()
    await agent.deploy("r", "d2", timeout_seconds=30, **canary())
    await held(agent, "r", 10)
    assert (outside.traffic.share, sorted(outside.served())) == (10, ["d1"] * 4 + ["d2"])
    await held(agent, "r", 50)
    assert (outside.traffic.share, sorted(outside.served())) == (50, ["d1"] * 4 + ["d2"] * 2)
    await agent.done()
    assert 120 <= now() - begun < 140, "held for two minutes, on top of a timeout of 30 s"
    assert await agent.outcome("r") == "running"
    assert outside.served() == ["d2"] * 4
    assert outside.traffic.shares == [10, 50, 100]
    statuses = [payload for kind, payload in await agent.said("r") if kind == "deploy_status"]
    told = [payload for payload in statuses if "held" in payload["message"]]
    assert 20 <= len(told) <= 26
    assert {(payload["status"], payload["phase"]) for payload in told} == {("health_checking", "health_check")}
    assert "10 % of the requests, held for 60 s more" in [payload["message"] for payload in told]
    assert "10 % of the requests, held for 5 s more" in [payload["message"] for payload in told]


async def test_a_hold_of_hours_tells_of_itself_once_a_minute(agent: Agent, outside: Outside) -> None:
    await agent.deployed("d1", **FOUR)
    await agent.deploy_to_end("r", "d2", **canary((10, 7200)))
    assert await agent.outcome("r") == "running"
    assert 110 <= sum("held" in message for message in await messages(agent, "r")) <= 121


async def test_the_first_deploy_has_nothing_to_be_compared_with_and_says_so(agent: Agent, outside: Outside) -> None:
    await agent.deploy("r", "d1", **canary())
    await agent.send("promote", "p", service_id="web")
    assert await error_of(agent, "p") == "NO_CANARY"
    await agent.done()
    assert "no earlier version is running to compare the canary with" in (await agent.end_of("r"))["message"]
    assert (outside.served(), outside.traffic.shares) == (["d1"] * 4, [])


async def test_a_rollback_to_what_was_a_canary_does_not_hold(agent: Agent, outside: Outside) -> None:
    await agent.deployed("d1", **FOUR)
    await agent.deployed("d2", **canary((50, 3)))
    await agent.deployed("d3", **FOUR)
    begun = now()
    await agent.send("rollback", "r", service_id="web", target_deployment_id="d2")
    await agent.carry_out("promote", "p")
    assert now() - begun < 10
    assert outside.served() == ["d2"] * 4
    assert outside.traffic.shares == [50, 100], "those of the canary itself"


# Refused before anything is begun


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"networking": {}}, "INVALID_PAYLOAD", "networking.domains: is missing"),
        ({"config": {"replicas": 1, "port": 8080}, "networking": {**REACHED["networking"], "expose_port": 80}}, "", ""),
        ({"canary": {"max_error_percent": 1}}, "METRICS_UNAVAILABLE", "canary.max_error_percent: cannot ask the proxy"),
    ],
)
async def test_what_cannot_be_a_canary_is_refused_when_it_comes(
    agent: Agent, outside: Outside, changes: dict[str, Any], code: str, sentence: str
) -> None:
    outside.counter.away = True
    await agent.deployed("d1", **REACHED)
    await agent.deploy("r", "d2", **{**canary(), **changes})
    answer = await agent.answer("r")
    # A host port that nobody holds is no obstacle.
    assert answer["success"] is (code == "")
    if code:
        assert (answer["error"]["code"], sentence in answer["error"]["message"]) == (code, True)
    await agent.done()


async def test_a_limit_of_errors_without_metrics_is_refused_and_names_the_key(tmp_path: Path) -> None:
    outside = Outside(has_metrics=False)
    async with running(tmp_path, outside.adapter, **outside.parts) as agent:
        await agent.deploy("r", "d2", **canary(max_error_percent=1))
        answer = await agent.answer("r")
        assert answer["error"]["code"] == "INVALID_PAYLOAD"
        assert "set networking.traefik_metrics" in answer["error"]["message"]


async def test_a_canary_beside_a_held_port_is_refused_also_when_it_is_only_planned(
    agent: Agent, outside: Outside
) -> None:
    one: dict[str, Any] = {"config": {"replicas": 1}, "networking": {"domains": ["web.example"], "expose_port": 80}}
    await agent.deployed("d1", **one)
    for kind, request_id in (("deploy", "r"), ("plan", "q")):
        await agent.send(kind, request_id, **deploy_payload("d2", **{**canary(), **one}))
        await asyncio.sleep(0.1)
        answer = await agent.answer(request_id)
        assert answer["error"]["code"] == "INVALID_PAYLOAD"
        assert "strategy: a canary is impossible here: host port 80" in answer["error"]["message"]


async def test_without_a_proxy_that_shares_out_there_are_no_canaries(tmp_path: Path) -> None:
    async with running(tmp_path, FakeEngine()) as agent:
        await agent.deploy("r", "d1", **canary())
        [answer] = await agent.responses("r")
        assert "a canary needs networking.proxy traefik-file" in answer["error"]["message"]


# Judged


def _crash(outside: Outside) -> None:
    [new] = [c for c in outside.adapter.of("web") if c.deployment.deployment_id == "d2"]
    new.state, new.exit_code = ContainerState.EXITED, 3


def _restart(outside: Outside) -> None:
    [new] = [c for c in outside.adapter.of("web") if c.deployment.deployment_id == "d2"]
    new.restart_count += 1


def _vanish(outside: Outside) -> None:
    [new] = [c for c in outside.adapter.of("web") if c.deployment.deployment_id == "d2"]
    del outside.adapter.containers[new.container_id]


def _sicken(outside: Outside) -> None:
    outside.judge.health["d2"] = Health.UNHEALTHY


@pytest.mark.parametrize(
    ("happens", "code", "sentence"),
    [
        (_sicken, "HEALTH_CHECK_FAILED", "canary at 10 %: syn-web-d2: it became unhealthy"),
        (_crash, "CONTAINER_CRASHED", "canary at 10 %: syn-web-d2: it ended with exit code 3 (now exited)"),
        (_restart, "CONTAINER_CRASHED", "canary at 10 %: syn-web-d2: it restarted"),
        (_vanish, "CONTAINER_NOT_FOUND", "was removed outside the agent"),
    ],
)
async def test_a_canary_that_does_badly_is_rolled_back_within_seconds(
    agent: Agent, outside: Outside, happens: Any, code: str, sentence: str
) -> None:
    await begin(agent, **canary((10, 3600)))
    happens(outside)
    begun = now()
    await agent.done()
    assert now() - begun < 5
    await agent.failed("r", "rolled_back", code, sentence)
    assert outside.served() == ["d1"] * 4
    assert len(outside.adapter.of("web")) == 4


async def test_what_turns_bad_among_those_that_serve_is_not_the_canary_s_fault(agent: Agent, outside: Outside) -> None:
    outside.judge.health["d1"] = Health.UNHEALTHY
    await agent.deployed("d1", **FOUR)
    await agent.deployed("d2", **canary((10, 30)))
    assert outside.served() == ["d2"] * 4


async def test_too_many_errors_end_a_canary_as_soon_as_there_are_enough_requests(
    agent: Agent, outside: Outside
) -> None:
    outside.counter.rate, outside.counter.bad = 2.0, 6.0
    await agent.deployed("d1", **FOUR)
    begun = now()
    await agent.deploy_to_end("r", "d2", **canary((10, 3600), max_error_percent=5, min_requests=100))
    assert 50 <= now() - begun < 70
    end = await agent.end_of("r")
    assert (end["status"], end["error"]["code"]) == ("rolled_back", "CANARY_FAILED")
    assert re.search(r"[56]\.\d % of 1\d\d answers were 5xx, more than 5 %", end["message"])


async def test_errors_within_the_limit_and_those_of_before_the_hold_do_not_end_it(
    agent: Agent, outside: Outside
) -> None:
    outside.counter.bad, outside.counter.before = 4.0, Answers(total=1000, failed=1000)
    await agent.deployed("d1", **FOUR)
    await agent.deploy_to_end("r", "d2", **canary((10, 30), (50, 30), max_error_percent=5))
    assert await agent.outcome("r") == "running"
    assert "not judged" not in (await agent.end_of("r"))["message"]


async def test_too_few_requests_are_not_judged_and_that_is_said(agent: Agent, outside: Outside) -> None:
    outside.counter.rate, outside.counter.bad = 0.5, 100.0
    await agent.deployed("d1", **FOUR)
    await agent.deploy_to_end("r", "d2", **canary((10, 30), max_error_percent=5))
    message = (await agent.end_of("r"))["message"]
    assert "the canary at 10 % answered 15 requests, fewer than 20: its error rate was not judged" in message


async def test_a_proxy_that_restarts_begins_its_count_anew(agent: Agent, outside: Outside) -> None:
    await begin(agent, **canary((10, 100), max_error_percent=25))
    await asyncio.sleep(20)
    outside.counter.since, outside.counter.bad = now(), 50.0
    await agent.done()
    # 200 good answers, and then as many bad as good ones.
    assert "more than 25 %" in (await agent.end_of("r"))["message"]


@pytest.mark.parametrize(("away_secs", "status"), [(20, "running"), (UNCOUNTED_SECS + 30, "rolled_back")])
async def test_a_proxy_that_is_away_at_the_end_of_the_hold_is_waited_for_within_bounds(
    agent: Agent, outside: Outside, away_secs: float, status: str
) -> None:
    await begin(agent, **canary((10, 20), max_error_percent=5))
    await asyncio.sleep(10)
    outside.counter.away = True
    await asyncio.sleep(away_secs)
    outside.counter.away = False
    await agent.done()
    end = await agent.end_of("r")
    assert end["status"] == status
    if status == "rolled_back":
        assert "its errors are not known: cannot ask the proxy: it is away" in end["message"]


async def test_an_engine_that_was_away_is_no_fault_of_the_canary_and_the_step_is_held_anew(
    agent: Agent, outside: Outside
) -> None:
    await begin(agent, timeout_seconds=60, **canary((10, 600)))
    await asyncio.sleep(300)
    outside.adapter.away = True
    await asyncio.sleep(20)
    for container in outside.adapter.of("web"):
        # An engine that restarts has started them again.
        container.started_ns = (container.started_ns or 0) + 1
    outside.adapter.away = False
    begun = now()
    await agent.done()
    assert 595 <= now() - begun < 615
    assert await agent.outcome("r") == "running"
    assert outside.served() == ["d2"] * 4


# Steered


async def test_a_promoted_canary_goes_to_all_requests_once_it_is_proven_and_the_answer_is_given_once(
    agent: Agent, outside: Outside
) -> None:
    await begin(agent, **canary((10, 3600), (50, 3600), (100, 3600)))
    begun = now()
    for _ in range(2):
        await agent.send("promote", "p", service_id="web")
    await agent.done()
    assert now() - begun < 10
    assert await agent.outcome("r") == "running"
    assert outside.served() == ["d2"] * 4
    assert outside.traffic.shares == [10, 100]
    answers = await agent.responses("p")
    data = {"accepted": True, "service_id": "web", "deployment_id": "d2"}
    assert answers == [{"request_id": "p", "success": True, "data": data}] * 2
    await agent.send("promote", "p", service_id="web")
    assert (await agent.responses("p"))[-1] == answers[0], "the id is known, whatever has become of the canary"


async def test_a_promoted_canary_that_cannot_be_proven_is_rolled_back(agent: Agent, outside: Outside) -> None:
    await begin(agent, **canary((10, 3600)))
    for container in outside.adapter.of("web"):
        if container.deployment.deployment_id == "d2":
            _crash(outside)
    outside.adapter.refuse("start", "START_FAILED", times=20)
    await agent.carry_out("promote", "p")
    assert (await agent.end_of("r"))["status"] == "rolled_back"
    assert outside.served() == ["d1"] * 4


@pytest.mark.parametrize("wished", [True, False])
async def test_an_aborted_canary_gives_back_what_was_whatever_was_wished_for_failures(
    agent: Agent, outside: Outside, wished: bool
) -> None:
    await begin(agent, rollback_on_failure=wished, **canary((10, 3600)))
    await agent.ask("abort", "a", service_id="web")
    assert [answer["success"] for answer in agent.local.responses()] == [True]
    await agent.done()
    end = await agent.end_of("r")
    assert (end["status"], end["error"]["code"]) == ("rolled_back", "ABORTED")
    assert end["message"] == "the canary of web was aborted; the previous version is running (4 of 4 replicas)"
    assert outside.served() == ["d1"] * 4
    for request_id, kind in (("p2", "promote"), ("a2", "abort")):
        await agent.send(kind, request_id, service_id="web")
        answer = await agent.answer(request_id)
        assert answer["error"] == {
            "code": "NO_CANARY",
            "message": f"cannot {kind} web: no canary of it is under way; deploy one with strategy canary",
        }


@pytest.mark.parametrize("strategy", ["rolling", "blue_green", "instant"])
async def test_only_a_canary_can_be_steered(agent: Agent, outside: Outside, strategy: str) -> None:
    await agent.deployed("d1", **FOUR)
    async with agent.held_at("create", agent.deploy("r", "d2", strategy=strategy, **FOUR)):
        for kind in ("promote", "abort"):
            await agent.send(kind, kind, service_id="web")
            assert await error_of(agent, kind) == "NO_CANARY"
    assert await agent.outcome("r") == "running"


async def test_an_abort_before_the_commit_is_written_wins_and_one_after_it_is_refused(tmp_path: Path) -> None:
    for number, first in enumerate(("abort", "commit")):
        outside = Outside()
        async with running(tmp_path / str(number), outside.adapter, **outside.parts) as agent:
            await begin(agent, **canary((10, 30)))
            job = agent.deployer.queues.running(WEB)
            assert job is not None
            while outside.traffic.share < 100:
                await asyncio.sleep(0.01)
            while first == "commit" and job.phase is OperationPhase.RUNNING:
                await asyncio.sleep(0.01)
            await agent.send("abort", "a", service_id="web")
            [answer] = await agent.responses("a")
            await agent.done()
            outcome = await agent.outcome("r")
            assert (answer["success"], outcome) in [(True, "ABORTED"), (False, "running")]
            if first == "commit":
                assert outcome == "running"
            assert outside.served() == (["d2"] if outcome == "running" else ["d1"]) * 4


@pytest.mark.parametrize("kind", ["deploy", "rollback", "stop"])
async def test_a_newer_command_takes_the_place_of_a_canary_at_once(agent: Agent, outside: Outside, kind: str) -> None:
    await agent.deployed("d0", **FOUR)
    await begin(agent, **canary((10, 3600)))
    begun = now()
    if kind == "deploy":
        await agent.deploy("n", "d3", **FOUR)
    else:
        await agent.send(kind, "n", service_id="web")
    await agent.done()
    assert now() - begun < 60
    assert await agent.outcome("r") == "SUPERSEDED"
    assert outside.served() == {"deploy": ["d3"] * 4, "rollback": ["d0"] * 4, "stop": []}[kind]


# Stopped, killed and taken up


async def test_an_agent_that_stops_does_not_wait_for_a_hold_and_the_next_one_holds_the_step_anew(
    tmp_path: Path,
) -> None:
    outside = Outside()
    async with running(tmp_path / "d", outside.adapter, drain_secs=20, **outside.parts) as agent:
        await agent.deployed("d1", **FOUR)
        await agent.deploy("r", "d2", **canary((10, 30), (50, 600)))
        await held(agent, "r", 50)
        await asyncio.sleep(300)
        begun = now()
        await agent.deployer.queues.drain(20)
        assert now() - begun < 2
    assert (outside.traffic.share, sorted(outside.served())) == (50, ["d1"] * 4 + ["d2"] * 2)
    async with running(tmp_path / "d", outside.adapter, **outside.parts) as agent:
        begun = now()
        await agent.done()
        assert 600 <= now() - begun < 610
        assert await agent.outcome("r") == "running"
        assert outside.traffic.shares == [10, 50, 50, 100]


@pytest.mark.parametrize("kind", ["promote", "abort"])
async def test_a_decision_that_was_answered_outlives_the_agent(tmp_path: Path, kind: str) -> None:
    outside = Outside()
    async with until_killed(tmp_path / "d", outside.adapter, **outside.parts) as agent:
        await begin(agent, **canary((10, 3600), (50, 3600)))
        # Whatever the agent does next is the last thing it does.
        outside.adapter.kill_at = len(outside.adapter.calls) + 1
        await agent.send(kind, "s", service_id="web")
        assert [answer["success"] for answer in await agent.responses("s")] == [True]
        await outside.adapter.killed.wait()
    outside.adapter.kill_at = None
    async with running(tmp_path / "d", outside.adapter, **outside.parts) as agent:
        begun = now()
        await agent.done()
        assert now() - begun < 30
        assert await agent.outcome("r") == ("running" if kind == "promote" else "ABORTED")
        assert outside.served() == (["d2"] if kind == "promote" else ["d1"]) * 4
        assert len(await agent.responses("s")) == 1


async def end(agent: Agent, name: str) -> None:
    """Let the canary come to the end that the story tells."""
    if name == "in time":
        await agent.done()
    while agent.deployer.queues.is_busy(WEB):
        job = agent.deployer.queues.running(WEB)
        if job is not None and job.is_holding and job.stage == 1:
            await agent.send(name, f"{name}-{now():.3f}", service_id="web")
        await asyncio.sleep(0.25)


@pytest.mark.parametrize("stride", [10, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", ["in time", "promote", "abort"])
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
async def test_a_canary_killed_at_any_call_goes_on_where_it_was(
    quick_path: Path, name: str, after: bool, stride: int
) -> None:
    await kill(quick_path, name, after, itertools.count(4 + 5 * after * (stride > 1), stride))


async def kill(path: Path, name: str, after: bool, numbers: Iterator[int]) -> None:
    """Run the story with an agent that is killed at each of the calls to the engine, and started again.

    The first three are made before the command is accepted.
    """
    reached = True
    while reached:
        number = next(numbers)
        outside = Outside()
        directory = path / str(number)
        async with running(directory, outside.adapter, **outside.parts) as agent:
            await agent.deployed("d1", **FOUR)
        outside.adapter.forget_the_past()
        outside.adapter.kill_at, outside.adapter.kill_after_effect = number, after
        async with until_killed(directory, outside.adapter, **outside.parts) as agent:
            await agent.deploy("r", "d2", timeout_seconds=60, **canary((10, 4), (50, 8)))
            ending = asyncio.create_task(end(agent, name))  # noqa: TID251 (ended below)
            reached = await agent.killed_or_done()
            ending.cancel()
            await asyncio.wait([ending])
        outside.adapter.kill_at = None
        async with running(directory, outside.adapter, **outside.parts) as agent:
            await end(agent, name)
            assert await agent.outcome("r") in ({"abort": ["ABORTED"]}.get(name, ["running"])), number
            final = "d1" if name == "abort" else "d2"
            assert outside.served() == [final] * 4
            assert [c.deployment.deployment_id for c in outside.adapter.of("web")] == [final] * 4
            assert outside.adapter.least_up.get(WEB, 4) >= 4
            assert outside.traffic.shares == sorted(outside.traffic.shares), "a share never shrinks"
            assert await agent.journal.unfinished() == []
            assert await agent.journal.find(RequestId("r")) is not None


class ClaimedTraffic(FakeTraffic):
    """Another service has a domain."""

    claimed = ""

    async def check(self, deployment: Deployment, *, reserve: bool = True) -> None:
        await super().check(deployment)
        if self.claimed in deployment.spec.domains:
            raise RequestError("ROUTE_CONFLICT", f"networking.domains: {self.claimed} belongs to service other")


async def test_a_rollback_does_not_take_a_domain_that_another_service_has_by_now(tmp_path: Path) -> None:
    traffic = ClaimedTraffic()
    async with running(tmp_path, FakeEngine(), traffic=traffic) as agent:
        await agent.deployed("d1", **FOUR)
        await agent.deployed("d2", config={"replicas": 4}, networking={"domains": ["next.example"]})
        traffic.claimed = "web.example"
        await agent.carry_out("rollback", "b")
        assert await error_of(agent, "b") == "ROUTE_CONFLICT"
        traffic.claimed = ""
        await agent.carry_out("rollback", "c")
        assert await agent.outcome("c") == "running"
