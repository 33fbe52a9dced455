"""Questions that change nothing: status, services, figures, plans, and the views behind them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from syntra import __version__
from syntra.agent.api.service_views import PROBE_MAX_AGE_SECS, VIEW_PROBE_SECS, ServiceView, container_status
from syntra.model.command import Query, QueryKind
from syntra.model.container import Container
from syntra.model.errors import RequestError
from syntra.model.ids import RequestId, ServiceId
from syntra.model.status import Health
from syntra.runtime.errors import RuntimeUnavailable
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine
from tests.agent.samples import deployment
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

CHECK: dict[str, Any] = {"type": "exec", "command": ["wget"], "interval_seconds": 1, "retries": 2}
CHECKED: dict[str, Any] = {"config": {"health_check": CHECK}}


async def ask(agent: Agent, kind: QueryKind, **changes: Any) -> dict[str, Any]:
    return await agent.queries.answer(Query(request_id=RequestId("q"), kind=kind, **changes))


async def view(agent: Agent, service_id: str = "web") -> ServiceView:
    [found] = [item for item in await agent.views.all() if item.service_id == service_id]
    return found


async def test_the_status_tells_of_the_agent_the_engine_and_the_services(agent: Agent, tmp_path: Path) -> None:
    await agent.deployed("d1", **CHECKED)
    status = await ask(agent, QueryKind.STATUS)
    assert status["agent"] | {"pid": 0, "uptime_seconds": 0} == {
        "agent_id": "agt_1",
        "server_id": "srv_1",
        "version": __version__,
        "pid": 0,
        "uptime_seconds": 0,
        "data_dir": str(tmp_path),
    }
    assert status["control_plane"] == {"state": "alone"}
    assert status["runtime"] == {
        "name": "fake",
        "version": "1.2.3",
        "api_version": "1.41",
        "reachable": True,
        "detail": "",
        "reason": "",
    }
    assert status["journal"] == {"outbox": await agent.journal.outbox.size(), "dropped": 0}
    assert status["warnings"] == ["a warning"]
    [service] = status["services"]
    assert service["status"] == "running"


async def test_an_engine_that_is_away_is_part_of_the_status_and_an_error_elsewhere(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.away = True
    status = await ask(agent, QueryKind.STATUS)
    assert status["runtime"]["reachable"] is False
    assert "does not answer" in status["runtime"]["detail"]
    assert status["services"] == []
    assert len(status["warnings"]) == 2
    for kind in (QueryKind.LIST_SERVICES, QueryKind.METRICS):
        with pytest.raises(RuntimeUnavailable):
            await ask(agent, kind, service_id=ServiceId("web"))


async def test_a_service_is_listed_with_what_is_wanted_and_what_is_there(agent: Agent) -> None:
    networking = {"domains": ["shop.example.com"]}
    await agent.deployed("d1", config={"replicas": 2, "health_check": CHECK}, networking=networking)
    await agent.sampler.with_rates()
    [service] = (await ask(agent, QueryKind.LIST_SERVICES))["services"]
    containers = service.pop("containers")
    assert 0 <= service.pop("age_seconds") < 60 and service.pop("changed_at").endswith("Z")
    assert service == {
        "service_id": "web",
        "service_name": "web",
        "project_name": "shop",
        "deployment_id": "d1",
        "image": "shop/web:1",
        "status": "running",
        "health": "healthy",
        "status_detail": "",
        "paused": None,
        "has_check": True,
        "replicas": {"desired": 2, "running": 2},
        "configured_replicas": 2,
        "ports": ["8080"],
        "restarts": 0,
        "domains": ["shop.example.com"],
        "urls": ["http://shop.example.com"],
        "failed": None,
    }
    assert [c["container_name"] for c in containers] == ["syn-web-d1", "syn-web-d1-2"]
    assert 0 <= containers[0].pop("age_seconds") < 60 and containers[0].pop("place")
    assert containers[0] | {"started_at": ""} == {
        "replica": 1,
        "state": "running",
        "has_check": True,
        "exit_code": None,
        "service_id": "web",
        "container_id": agent.engine.of("web")[0].container_id,
        "container_name": "syn-web-d1",
        "deployment_id": "d1",
        "status": "running",
        "health": "healthy",
        "cpu_percent": 1.25,
        "memory_mb": 3.0,
        "restart_count": 0,
        "started_at": "",
    }


async def test_a_service_whose_deployments_all_failed_is_listed_until_it_is_removed(agent: Agent) -> None:
    await agent.deploy_to_end("r1", "d1", env={"FAIL": "exit"})
    [service] = (await ask(agent, QueryKind.LIST_SERVICES))["services"]
    [kept] = agent.engine.kept.values()
    failed = service.pop("failed")
    assert (service["service_name"], service["project_name"], service["status"]) == ("web", "shop", "failed")
    assert (service["status_detail"], service["containers"]) == ("exit 3", [])
    assert failed | {"reason": "", "started_at": ""} == {
        "deployment_id": "d1",
        "image": "shop/web:1",
        "state": "failed",
        "exit_code": 3,
        "reason": "",
        "container_id": kept.container_id,
        "container_name": "syn-web-d1-failed",
        "started_at": "",
    }
    assert "exited with code 3" in failed["reason"]
    assert await agent.views.all() == [], "heartbeats do not know it"
    await agent.carry_out("stop", "r2", remove_container=True)
    assert (await ask(agent, QueryKind.LIST_SERVICES))["services"] == []
    assert agent.ledger.opened == ()
    assert (agent.engine.kept, agent.engine.pins, agent.engine.networks_made) == ({}, set(), set())


async def test_a_failure_without_a_container_is_listed_beside_what_runs_and_a_failed_scale_is_not(agent: Agent) -> None:
    await agent.deployed("d1")
    await agent.deploy_to_end("r2", "d2", image="shop/nothing:1")
    [service] = (await ask(agent, QueryKind.LIST_SERVICES))["services"]
    assert service["status"] == "running"
    assert (service["failed"]["deployment_id"], service["failed"]["container_id"]) == ("d2", None)
    assert service["failed"]["reason"].startswith("cannot pull shop/nothing:1")
    await agent.deployed("d3")
    agent.engine.refuse("create", "CREATE_FAILED")
    await agent.carry_out("scale", "r4", replicas=2)
    [service] = (await ask(agent, QueryKind.LIST_SERVICES))["services"]
    assert service["failed"] is None


async def test_the_state_of_a_service_follows_its_containers(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2, "health_check": CHECK})
    one, _ = agent.engine.of("web")
    assert (await view(agent)).status == "running"
    await agent.engine.stop(one.container_id, 0.0)
    fallen = await view(agent)
    assert fallen.status == "error"
    assert [container_status(fallen, r, None)["status"] for r in fallen.replicas] == ["stopped", "running"]
    await agent.carry_out("stop", "r2")
    stopped = await view(agent)
    assert (stopped.status, stopped.overall_health) == ("stopped", Health.UNKNOWN)
    [listed] = (await ask(agent, QueryKind.LIST_SERVICES))["services"]
    assert listed["replicas"] == {"desired": 0, "running": 0}
    await agent.engine.start(one.container_id)
    assert (await view(agent)).status == "running"


async def test_a_crashing_service_is_restarting_or_in_error(agent: Agent) -> None:
    await agent.deployed("d1", env={"FAIL": "deaf"})
    [container] = agent.engine.of("web")
    container.deployment.spec.env["FAIL"] = "exit"  # type: ignore[index] # it begins to crash
    await agent.engine.restart(container.container_id, 0.0)
    crashing = await view(agent)
    assert crashing.status == "restarting"
    assert container_status(crashing, crashing.replicas[0], None)["status"] == "restarting"
    container.always = False
    await asyncio.sleep(1)
    ended = await view(agent)
    assert ended.status == "error"
    status = container_status(ended, ended.replicas[0], None)
    assert (status["status"], status["cpu_percent"], status["memory_mb"]) == ("error", 0.0, 0.0)


async def test_containers_that_the_journal_does_not_know_are_shown_as_they_are(agent: Agent) -> None:
    stray = deployment("d7", "lost")
    await agent.engine.obtain_image(stray, None, lambda *_: None)
    container_id, _ = await agent.engine.create(stray, 1)
    await agent.engine.start(container_id)
    [listed] = (await ask(agent, QueryKind.LIST_SERVICES))["services"]
    assert (listed["service_name"], listed["deployment_id"], listed["status"]) == ("lost", "d7", "running")
    assert (listed["image"], listed["project_name"], listed["domains"]) == (None, None, [])
    assert listed["replicas"] == {"desired": None, "running": 1}


async def test_health_is_probed_for_a_view_and_remembered_for_a_moment(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 3, "health_check": CHECK})
    await asyncio.sleep(PROBE_MAX_AGE_SECS)
    agent.engine.calls.clear()
    assert (await view(agent)).overall_health is Health.HEALTHY
    agent.engine.of("web")[1].deployment.spec.env["FAIL"] = "unhealthy"  # type: ignore[index] # it falls ill
    await asyncio.sleep(PROBE_MAX_AGE_SECS / 2)
    assert (await view(agent)).overall_health is Health.HEALTHY
    assert agent.engine.calls.count("execute") == 3
    await asyncio.sleep(PROBE_MAX_AGE_SECS)
    assert (await view(agent)).overall_health is Health.UNHEALTHY


async def test_slow_checks_do_not_hold_up_a_view_for_long(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 20, "health_check": {**CHECK, "timeout_seconds": 60}})
    await asyncio.sleep(PROBE_MAX_AGE_SECS)
    agent.engine.hold("execute")
    begun = now()
    assert (await view(agent)).overall_health is Health.UNHEALTHY
    # Ten at once, so twenty take two turns.
    assert now() - begun < 2 * (VIEW_PROBE_SECS + 1.5)


async def test_a_service_without_a_check_has_no_known_health(agent: Agent) -> None:
    await agent.deployed("d1")
    assert (await view(agent)).overall_health is Health.UNKNOWN


async def test_figures_are_those_of_what_runs(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2, "memory_limit": "64m"})
    one, _two = agent.engine.of("web")
    await agent.engine.stop(one.container_id, 0.0)
    figures = await ask(agent, QueryKind.METRICS, service_id=ServiceId("web"))
    assert figures["service_id"] == "web"
    [container] = figures["containers"]
    assert container["memory_used_mb"] == 3.0
    assert (container["memory_limit_mb"], container["memory_percent"]) == (64.0, 4.69)
    with pytest.raises(RequestError) as caught:
        await ask(agent, QueryKind.METRICS, service_id=ServiceId("other"))
    assert caught.value.code == "SERVICE_NOT_FOUND"


async def test_figures_come_in_the_order_of_the_replicas(tmp_path: Path) -> None:
    class NewestFirst(FakeEngine):
        """As the engine lists containers."""

        async def observe(self, service_id: ServiceId | None = None) -> list[Container]:
            return list(reversed(await super().observe(service_id)))

    async with running(tmp_path, NewestFirst()) as agent:
        await agent.deployed("d1", config={"replicas": 3})
        figures = await ask(agent, QueryKind.METRICS, service_id=ServiceId("web"))
        assert [c["container_name"] for c in figures["containers"]] == ["syn-web-d1", "syn-web-d1-2", "syn-web-d1-3"]


async def test_metrics_are_of_running_containers_between_two_readings(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    first, second = agent.engine.of("web")
    await agent.engine.stop(first.container_id, 0.0)
    figures = await ask(agent, QueryKind.METRICS, service_id=ServiceId("web"))
    assert figures["containers"] == [
        {
            "container_id": second.container_id,
            "container_name": "syn-web-d1-2",
            "cpu_percent": 1.25,
            "memory_used_mb": 3.0,
            "memory_limit_mb": None,
            "memory_percent": None,
            "network_rx_bytes": 1,
            "network_tx_bytes": 2,
            "block_read_bytes": 3,
            "block_write_bytes": 4,
            "pids": 5,
        }
    ]


async def test_what_cannot_be_measured_has_no_figures(agent: Agent) -> None:
    await agent.deployed("d1")
    agent.engine.refuse("readings", "LOGS_FAILED")
    assert (await ask(agent, QueryKind.METRICS, service_id=ServiceId("web")))["containers"] == []


async def test_a_plan_tells_the_steps_and_changes_nothing(agent: Agent) -> None:
    published: dict[str, Any] = {"networking": {"expose_port": 8088}}
    await agent.deployed("d1", **published)
    agent.engine.calls.clear()
    planned = await ask(agent, QueryKind.PLAN, deployment=deployment("d2", **published))
    assert (planned["service_id"], planned["deployment_id"], planned["strategy"]) == ("web", "d2", "rolling")
    texts = [step["text"] for step in planned["steps"]]
    assert texts[0] == "pull shop/web:1 and pin it"
    assert texts.index("stop syn-web-d1") < texts.index("start replica 1")
    assert "host port 8088" in planned["notes"][0]
    assert set(agent.engine.calls) == {"observe", "failed", "has_image", "image_volumes"}
    assert await agent.journal.deployment(ServiceId("web"), deployment("d2").deployment_id) is None
    again = await ask(agent, QueryKind.PLAN, deployment=deployment("d1", **published))
    assert "pull" not in " ".join(step["text"] for step in again["steps"])
    with pytest.raises(RequestError) as caught:
        await ask(agent, QueryKind.PLAN, deployment=deployment("d1", env={"OTHER": "1"}))
    assert caught.value.code == "DEPLOYMENT_EXISTS"


async def test_top_has_rates_of_each_replica_and_the_requests_of_each_service(agent: Agent) -> None:
    await agent.deployed("d1", config={"replicas": 2})
    first, second = agent.engine.of("web")
    await agent.engine.stop(first.container_id, 0.0)
    found = await ask(agent, QueryKind.TOP)
    assert 0 <= found["host"]["cpu_usage_percent"] <= 100 and len(found["host"]["load"]) == 3
    [service] = found["services"]
    stopped, runs = service.pop("containers")
    assert service == {
        "service_id": "web",
        "service_name": "web",
        "project_name": "shop",
        "status": "error",
        "restarts": 0,
        # There is no telemetry process.
        "requests_per_sec": None,
        "errors_per_sec": None,
        "p95_ms": None,
        "logs_per_sec": None,
    }
    assert (stopped["container_name"], stopped["status"], "cpu_percent" in stopped) == ("syn-web-d1", "stopped", False)
    assert runs == {
        "container_id": second.container_id,
        "container_name": "syn-web-d1-2",
        "status": "running",
        "health": "unknown",
        "restart_count": 0,
        "cpu_percent": 1.25,
        "cpu_limit": None,
        "memory_used_mb": 3.0,
        "memory_limit_mb": None,
        "memory_percent": None,
        "network_rx_bytes_per_sec": 0.0,
        "network_tx_bytes_per_sec": 0.0,
        "block_read_bytes_per_sec": 0.0,
        "block_write_bytes_per_sec": 0.0,
        "pids": 5,
        "oom_kills": None,
    }
