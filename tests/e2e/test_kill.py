"""An agent killed at any engine call leaves nothing half-done: the next start finishes or unwinds, and says so once."""

from __future__ import annotations

import random
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent_process import AgentProcess
from tests.e2e.kill_proxy import KillProxy, Trap, When
from tests.engine import api, busybox_image, cleanup, new_token, require_engine, wait_until

pytestmark = pytest.mark.engine

# The default run takes a few calls of each operation; the seed is printed, so that a failure can be run again.
SAMPLES = 2
SEED = random.SystemRandom().randrange(10**6)


@dataclass(slots=True)
class Bench:
    """A service under test, its agent, and the proxy between agent and engine."""

    token: str
    agent: AgentProcess
    proxy: KillProxy
    # Where requests for the service come in, when they do.
    domains: tuple[str, ...] = ()
    # Which calls the traps count.
    only: re.Pattern[str] = re.compile("")
    deployments: list[str] = field(default_factory=list)

    @property
    def service(self) -> str:
        return f"svc-{self.token}"

    def deploy_payload(self, replicas: int = 2) -> dict[str, Any]:
        version = len(self.deployments) % 2 + 1
        deployment = f"d{len(self.deployments):03d}{uuid.uuid4().hex[:5]}-{self.token}"
        self.deployments.append(deployment)
        return {
            "service_id": self.service,
            "deployment_id": deployment,
            "project_name": self.token,
            "image": f"{self.token}:v{version}",
            "config": {
                "port": 8080,
                "replicas": replicas,
                "env_vars": {"VERSION": f"v{version}"},
                "health_check": {"path": "/health", "interval_seconds": 0.5, "timeout_seconds": 1, "retries": 6},
            },
            "strategy": "rolling",
            "timeout_seconds": 60,
            **({"networking": {"domains": list(self.domains)}} if self.domains else {}),
        }

    def containers(self) -> list[dict[str, Any]]:
        filters = f'{{"label":["syntra.service_id={self.service}"]}}'
        listed: list[dict[str, Any]] = api("GET", "/containers/json", query={"all": "1", "filters": filters})
        return listed

    def running(self) -> int:
        return sum(1 for item in self.containers() if item["State"] == "running")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench without any service yet."""
    require_engine()
    token = new_token()
    for version in ("1", "2"):
        busybox_image(f"{token}:v{version}", f"v{version}")
    proxy_path = Path(f"/tmp/syntra-proxy-{token}.sock")
    try:
        with KillProxy(proxy_path) as proxy, AgentProcess(tmp_path, engine_socket=str(proxy_path)) as agent:
            yield Bench(token=token, agent=agent, proxy=proxy)
    finally:
        proxy_path.unlink(missing_ok=True)
        cleanup(token)


class Watch:
    """Samples how many containers of the service run; the least seen tells whether serving was touched."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch")
        self.least = 1000

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.least = min(self.least, self._bench.running())


OPERATIONS = ("deploy", "scale up", "scale down", "rollback", "stop")


def prepare(bench: Bench, operation: str) -> tuple[str, dict[str, Any], int, int]:
    """Bring the service into the state before the operation: kind, payload, replicas before and after."""
    row = bench.running()
    if operation == "scale down":
        if row != 3:
            settle(bench, "deploy", bench.deploy_payload(3))
        return "scale", {"service_id": bench.service, "replicas": 1}, 3, 1
    if row != 2 or (operation == "rollback" and len(bench.deployments) < 2):
        settle(bench, "deploy", bench.deploy_payload(2))
    if operation == "rollback" and len(bench.deployments) < 2:
        settle(bench, "deploy", bench.deploy_payload(2))
    match operation:
        case "deploy":
            return "deploy", bench.deploy_payload(2), 2, 2
        case "scale up":
            return "scale", {"service_id": bench.service, "replicas": 3, "strategy": "rolling"}, 2, 3
        case "rollback":
            return "rollback", {"service_id": bench.service}, 2, 2
        case _:
            return "stop", {"service_id": bench.service, "timeout_seconds": 5, "remove_container": False}, 2, 0


def settle(bench: Bench, kind: str, payload: Mapping[str, Any]) -> None:
    bench.proxy.trap = Trap()
    report = bench.agent.carry_out(kind, payload)
    assert report.get("status") == "running", report


def count_calls(bench: Bench, operation: str) -> int:
    """How many calls the operation makes when nobody kills it."""
    kind, payload, _, after = prepare(bench, operation)
    bench.proxy.trap = Trap(only=bench.only)
    report = bench.agent.carry_out(kind, payload)
    assert report.get("status", "running") == "running" and report.get("success", True), report
    assert bench.running() == after
    return len(bench.proxy.trap.calls)


def kill_once(bench: Bench, operation: str, at: int, when: When) -> str:
    """Kill the agent at call `at` of the operation, start it again, and check what must hold; the call's line."""
    kind, payload, before, after = prepare(bench, operation)
    request_id = f"req-{uuid.uuid4()}"
    bench.proxy.trap = trap = Trap(at=at, when=when, pid=lambda: bench.agent.pid, only=bench.only)
    answered: dict[str, Any] | None = None
    with Watch(bench) as watch:
        try:
            answered = bench.agent.carry_out(kind, payload, request_id=request_id)
        except ConnectionError:
            assert bench.agent.wait_killed(), "the agent ended by something else than the trap"
        # What the agent tidies up after its report is counted too; from here on nothing springs the trap.
        bench.proxy.trap = Trap()
        if not trap.hit:
            # Polling differs from run to run: this one was over before the call came.
            return ""
        assert bench.agent.wait_killed(), f"call {at} came and killed nobody"
        bench.agent.start()
        # The control plane's side of "once": the same id again, and the same answer.
        first = bench.agent.carry_out(kind, payload, request_id=request_id)
        wait_until(lambda: not unfinished(bench), f"the operation ends after {at} {when.value} {trap.sprung}")
        again = bench.agent.carry_out(kind, payload, request_id=request_id)
    where = f"{operation}, killed {when.value} call {at}: {trap.sprung}"
    assert first == again, where
    assert answered is None or answered == again, where
    assert first.get("status", "running") == "running" and first.get("success", True), f"{where}: {first}"
    containers = bench.containers()
    states = sorted(item["State"] for item in containers)
    if operation == "stop":
        assert states == ["exited"] * before, f"{where}: {states}"
    else:
        assert states == ["running"] * after, f"{where}: {[(c['Names'], c['State']) for c in containers]}"
        assert len({item["Labels"]["syntra.deployment_id"] for item in containers}) == 1, where
        assert watch.least >= min(before, after), f"{where}: only {watch.least} were running at one moment"
    listed = bench.agent.ask("list_services", {})["data"]["services"]
    mine = next(service for service in listed if service["service_id"] == bench.service)
    assert mine["replicas"] == {"desired": after, "running": after}, where
    return trap.sprung


def unfinished(bench: Any) -> int:
    connection = sqlite3.connect(f"file:{bench.agent.data_dir}/journal.db?mode=ro", uri=True, timeout=5)
    try:
        return int(connection.execute("SELECT count(*) FROM operations").fetchone()[0])
    finally:
        connection.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_agent_killed_at_a_call_finishes_after_its_restart(bench: Bench, operation: str) -> None:
    """A sample of the calls of each operation, before and after each went through."""
    print(f"seed {SEED}")
    total = count_calls(bench, operation)
    choose = random.Random(f"{SEED} {operation}")
    points = sorted(choose.sample(range(1, total + 1), min(SAMPLES, total)))
    for at in points:
        for when in When:
            kill_once(bench, operation, at, when)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("when", list(When))
def test_an_agent_killed_at_every_call_finishes_after_its_restart(bench: Bench, operation: str, when: When) -> None:
    """Every call of each operation."""
    total = count_calls(bench, operation)
    started = time.monotonic()
    lines = [kill_once(bench, operation, at, when) for at in range(1, total + 1)]
    print(f"{operation} {when.value}: {sum(map(bool, lines))} kills in {time.monotonic() - started:.0f} s")
