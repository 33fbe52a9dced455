"""Measures the time from a container's crash until the proxy no longer routes to it: agent and Traefik's labels.

One Traefik with its defaults gets the same containers in two ways: from the agent's file, and from its own Docker
provider, which reads labels. A container's process is killed with SIGKILL. For each way, the clock runs from before the
kill until the proxy's API shows no server with that address. The API is polled every few milliseconds, which is the
resolution. The restart policy is switched off before the kill: a container that the engine restarts within a tenth of a
second may never leave the routes. Then the container is started again, and the next round kills the other one.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.agent import SOURCE, AgentProcess
from benchmarks.figures import ratio, result, say, spread
from benchmarks.switch import config
from syntra.cli.agent_client import operate
from tests.e2e.web_service import web_image
from tests.engine import PORT, EngineRefused, api, cleanup, new_token, wait_until
from tests.networking.real_traefik import RealTraefik

SIDES = {"ours": "@file", "docker_provider": "@docker"}
TARGET_P95_MS = 2000
OPERATION_SECS = 120.0
LOST_SECS = 60.0
LOOK_SECS = 0.003
QUIET_SECS = 2.5
"""Longer than Traefik's pause between two configurations of one provider, so that it is idle before each crash."""


class Watcher:
    """Polls the proxy's API over a kept connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def servers(self) -> dict[str, set[str]]:
        """The addresses that get requests, by side."""
        self._connection.request("GET", "/api/rawdata")
        services: dict[str, Any] = json.loads(self._connection.getresponse().read()).get("services", {})
        found: dict[str, set[str]] = {side: set() for side in SIDES}
        for name, service in services.items():
            for side, suffix in SIDES.items():
                if name.endswith(suffix):
                    urls = [server["url"] for server in service.get("loadBalancer", {}).get("servers") or []]
                    found[side] |= {url.removeprefix("http://").partition(":")[0] for url in urls}
        return found


def replicas(service: str) -> list[dict[str, Any]]:
    """The running replicas."""
    filters = json.dumps({"label": [f"syntra.service_id={service}"]})
    listed: list[dict[str, Any]] = api("GET", "/containers/json", query={"filters": filters})
    return sorted(listed, key=lambda item: str(item["Id"]))


def address_of(item: dict[str, Any]) -> str:
    """The container's address in its only network."""
    (network,) = item["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def crash(watcher: Watcher, victim: dict[str, Any]) -> dict[str, float]:
    """Kill it; return the seconds until each side no longer routes to it."""
    api("POST", f"/containers/{victim['Id']}/update", {"RestartPolicy": {"Name": "no"}})
    pid, address = api("GET", f"/containers/{victim['Id']}/json")["State"]["Pid"], address_of(victim)
    left: dict[str, float] = {}
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    while len(left) < len(SIDES):
        servers, now = watcher.servers(), time.perf_counter()
        left |= {side: now - began for side in SIDES if side not in left and address not in servers[side]}
        assert now - began < LOST_SECS, f"the routes did not follow: {left} {servers}"
        time.sleep(LOOK_SECS)
    return left


@contextlib.contextmanager
def service(folder: Path, token: str, count: int) -> Iterator[Watcher]:
    """Replicas of an agent behind a proxy with both providers."""
    docker = {"exposedByDefault": True, "constraints": f"Label(`syntra.project`, `{token}`)"}
    with RealTraefik(folder / "proxy", throttle=None, docker=docker) as proxy:
        settings = config(proxy, "traefik-file", 1.0)
        with AgentProcess(folder / "agent", config=settings, command=SOURCE) as agent:
            payload = {
                "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
                "service_id": token,
                "project_name": token,
                "image": f"{token}:v1",
                "config": {
                    "port": PORT,
                    "replicas": count,
                    "health_check": {"path": "/health", "interval_seconds": 1},
                },
                "networking": {"domains": [f"{token}.example"]},
            }
            *_, last = operate(agent.socket, "deploy", payload, idle=OPERATION_SECS)
            assert last["status"] == "running", f"the deployment failed: {last}"
            yield Watcher(proxy.internal)


def whole(watcher: Watcher, token: str, count: int) -> bool:
    """Whether all replicas run and both sides route to exactly those."""
    running = {address_of(item) for item in replicas(token)}
    return len(running) == count and all(servers == running for servers in watcher.servers().values())


def run(crashes: int, count: int) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    token = new_token()
    samples: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        try:
            web_image(f"{token}:v1")
            with service(Path(name), token, count) as watcher:
                for number in range(crashes):
                    wait_until(lambda: whole(watcher, token, count), "all replicas are routed to", LOST_SECS)
                    time.sleep(QUIET_SECS)
                    victim = replicas(token)[number % count]
                    left = crash(watcher, victim)
                    for side, seconds in left.items():
                        samples[side].append(seconds)
                    say(", ".join(f"{side}: {1000 * seconds:.0f} ms" for side, seconds in left.items()))
                    # Unless the agent has already restarted or replaced it.
                    with contextlib.suppress(EngineRefused):
                        api("POST", f"/containers/{victim['Id']}/start")
        finally:
            cleanup(token)
    figures: dict[str, object] = {side: spread(seconds) for side, seconds in samples.items()}
    figures |= {
        "ratio_p95": ratio(spread(samples["ours"])["p95_ms"], spread(samples["docker_provider"])["p95_ms"]),
        "target_p95_ms": TARGET_P95_MS,
        "crashes": crashes,
        "replicas": count,
    }
    result("failover", figures, load_before=load)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench failover", description="Measure the time from a crash until the routes omit the container."
    )
    parser.add_argument("--crashes", type=int, default=30, help="number of crashes (default 30)")
    parser.add_argument("--replicas", type=int, default=3, help="replicas of the service (default 3)")
    given = parser.parse_args()
    run(given.crashes, given.replicas)
