"""An agent killed at any call to engine or proxy, or while it writes routes: old or new answers all the while."""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from syntra.networking.file_writer import FILE_NAME
from tests.e2e.agent_process import AgentProcess
from tests.e2e.kill_proxy import KillProxy, When
from tests.e2e.test_kill import SEED, Bench, count_calls, kill_once, settle
from tests.e2e.web_service import web_image
from tests.engine import cleanup, new_token, require_engine
from tests.networking.real_traefik import RealTraefik

pytestmark = pytest.mark.engine

OPERATIONS = ("deploy", "scale up", "scale down", "rollback")
SAMPLES = 2
PAUSE_SECS = 0.01


@dataclass(slots=True)
class Probe:
    """Requests one after the other through the routing proxy, in a thread; a context manager."""

    front: RealTraefik
    host: str
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Probe:
        self._thread = threading.Thread(target=self._ask, name="probe")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(PAUSE_SECS):
            try:
                answer = self.front.get(self.host)
            except (OSError, http.client.HTTPException) as lost:
                self.failures.append(f"{type(lost).__name__} {lost}")
                continue
            body = answer.body.strip()
            if answer.status == 200 and body in {"v1", "v2"}:
                self.answers[body] += 1
            else:
                self.failures.append(f"{answer.status} {body[:80]}")


@dataclass(slots=True)
class Routed:
    """A bench whose service is reached through a routing proxy."""

    bench: Bench
    front: RealTraefik

    def kill(self, operation: str, at: int, when: When) -> str:
        """Kill the agent at that call while requests come in; none fails. The call's line."""
        with Probe(self.front, self.bench.domains[0]) as probe:
            line = kill_once(self.bench, operation, at, when)
        where = f"{operation}, killed {when.value} call {at}: {line}"
        assert probe.failures == [], f"{where}: {len(probe.failures)} of {probe.answers.total()}: {probe.failures[:3]}"
        assert probe.answers.total() > 0, where
        return line


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[Routed]:
    """A service of two replicas that is routed to."""
    require_engine()
    token = new_token()
    sockets = Path(f"/tmp/syntra-proxy-{token}.sock")
    try:
        for version in ("v1", "v2"):
            web_image(f"{token}:{version}")
        with RealTraefik(tmp_path / "proxy") as front, KillProxy(sockets) as proxy:
            staging = front.directory / ".syntra-staging"
            staging.mkdir(mode=0o700)
            proxy.beside_file(front.directory / FILE_NAME, staging)
            config = (
                "[runtime]\nmin_healthy_secs = 0\n[networking]\n"
                f'traefik_dynamic_dir = "{front.directory}"\n'
                f'traefik_api = "http://127.0.0.1:{proxy.in_front_of_api(front.internal)}"\n'
                'entrypoints = ["web"]\ncert_resolver = ""\nhttps_redirect_entrypoint = ""\ndrain_seconds = 3\n'
            )
            with AgentProcess(tmp_path / "agent", engine_socket=str(sockets), config=config) as agent:
                bench = Bench(token=token, agent=agent, proxy=proxy, domains=(f"{token}.example.com",))
                settle(bench, "deploy", bench.deploy_payload(2))
                yield Routed(bench=bench, front=front)
    finally:
        sockets.unlink(missing_ok=True)
        cleanup(token)


@pytest.mark.timeout(400)
# Every operation, and every call, are in the soak stage.
def test_requests_are_answered_while_the_agent_is_killed_at_its_dealings_with_the_proxy(routed: Routed) -> None:
    """A sample of what concerns the proxy, in an operation of the seed: writes of its file and calls to its API."""
    operation = random.Random(SEED).choice(OPERATIONS)
    print(f"seed {SEED}: {operation}")
    routed.bench.only = re.compile("^proxy: ")
    total = count_calls(routed.bench, operation)
    writes = [n for n, line in enumerate(routed.bench.proxy.trap.calls, 1) if "write" in line]
    assert writes and total > len(writes), routed.bench.proxy.trap.calls
    choose = random.Random(f"{SEED} {operation}")
    points = {choose.choice(writes), *choose.sample(range(1, total + 1), SAMPLES)}
    lines = [routed.kill(operation, at, when) for at in sorted(points) for when in When]
    print(f"{operation}: {lines}")
    assert any(lines), "the agent was never killed"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("when", list(When))
def test_requests_are_answered_while_the_agent_is_killed_at_every_call(
    routed: Routed, operation: str, when: When
) -> None:
    """Every call to the engine and to the proxy, and every write."""
    total = count_calls(routed.bench, operation)
    begun = time.monotonic()
    lines = [routed.kill(operation, at, when) for at in range(1, total + 1)]
    print(f"{operation} {when.value}: {sum(map(bool, lines))} kills in {time.monotonic() - begun:.0f} s")
