"""Measures what clients notice of a new version: with the agent's routes, a plain stop-and-start, and Traefik's labels.

All three get the same load for the same time, one after another, through one Traefik with its defaults: requests at a
steady rate, some of which take three seconds, and websockets that stay open. Two replicas are replaced:

- `file`: a rolling deploy of the agent, with its routes in a file;
- `stop_start`: each container is stopped, removed, created and started at the same address, which the proxy knows from
  a file that never changes;
- `labels`: a rolling deploy of the agent; Traefik's Docker provider makes the routes from labels.

A websocket counts as cut when it ends while its replica is routed to, or within the drain time afterwards. A websocket
that stays open ends with its replica in any case: with `file` at the end of the drain time, which is counted
separately. The others promise no drain time.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from benchmarks.agent import SOURCE, AgentProcess
from benchmarks.figures import median, result, say
from syntra.cli.agent_client import operate
from syntra.networking.file_writer import FILE_NAME
from tests.e2e.load import Load, Report, RouteWatch
from tests.e2e.web_service import web_image
from tests.engine import PORT, TOKEN_LABEL, EngineRefused, api, cleanup, new_token, wait_until
from tests.networking.real_traefik import RealTraefik

REPLICAS = 2
SETTLE_SECS = 2.0
"""Time under load before the switch begins, so that slow requests and websockets are open by then."""
OPERATION_SECS = 120.0
STOP_SECS = 10


@dataclass(slots=True)
class Side:
    """The results of one side, over all rounds."""

    host: str
    switch: Callable[[str], None]
    took: list[float] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    cut: int = 0
    ended_in_time: int = 0

    def figures(self) -> dict[str, object]:
        """Sums, and the median time of a switch."""
        return {
            "requests": sum(report.requests for report in self.reports),
            "failed": sum(report.failed for report in self.reports),
            "late": sum(report.late for report in self.reports),
            "websockets_cut": self.cut,
            "websockets_ended_after_drain": self.ended_in_time,
            "switch_s": median(self.took),
        }


class AgentSide:
    """A service of an agent."""

    def __init__(self, agent: AgentProcess, token: str, host: str) -> None:
        self._agent = agent
        self._token = token
        self._host = host

    def deploy(self, version: str) -> None:
        """Run a rolling deploy to its end."""
        payload = {
            "deployment_id": f"d-{uuid.uuid4().hex[:10]}",
            "service_id": self._host.partition(".")[0],
            "project_name": self._token,
            "image": f"{self._token}:v1",
            "config": {
                "port": PORT,
                "replicas": REPLICAS,
                "env_vars": {"VERSION": version},
                "health_check": {"path": "/health", "interval_seconds": 1},
            },
            "networking": {"domains": [self._host]},
            "strategy": "rolling",
        }
        *_, last = operate(self._agent.socket, "deploy", payload, idle=OPERATION_SECS)
        assert last["status"] == "running", f"the deployment failed: {last}"


class StopAndStart:
    """Two containers at fixed addresses, replaced by plain engine calls."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._network = f"{token}-plain"
        self.addresses = self._make_network()

    def _make_network(self) -> list[str]:
        for _ in range(20):
            prefix = f"10.{128 + secrets.randbelow(127)}.{secrets.randbelow(256)}"
            pool = {"Config": [{"Subnet": f"{prefix}.0/28"}]}
            body = {"Name": self._network, "Labels": {TOKEN_LABEL: self._token}, "IPAM": pool, "CheckDuplicate": True}
            try:
                api("POST", "/networks/create", body)
            except EngineRefused as refused:
                if "overlap" not in refused.message:
                    raise
            else:
                return [f"{prefix}.{number}" for number in range(2, 2 + REPLICAS)]
        raise RuntimeError("found no subnet that is free")

    def routes(self, host: str) -> dict[str, object]:
        """The proxy's configuration, which never changes."""
        servers = [{"url": f"http://{address}:{PORT}"} for address in self.addresses]
        router = {"rule": f"Host(`{host}`)", "entryPoints": ["web"], "service": "plain"}
        return {"http": {"routers": {"plain": router}, "services": {"plain": {"loadBalancer": {"servers": servers}}}}}

    def start(self, version: str) -> None:
        """Start all of them for the first time."""
        for number in range(REPLICAS):
            self._start(number, version)

    def switch(self, version: str) -> None:
        """Replace one after another."""
        for number in range(REPLICAS):
            api("POST", f"/containers/{self._name(number)}/stop", query={"t": str(STOP_SECS)})
            api("DELETE", f"/containers/{self._name(number)}", query={"force": "1"})
            self._start(number, version)

    def _start(self, number: int, version: str) -> None:
        at = {"IPAMConfig": {"IPv4Address": self.addresses[number]}}
        body = {
            "Image": f"{self._token}:v1",
            "Env": [f"VERSION={version}"],
            "Labels": {TOKEN_LABEL: self._token},
            "HostConfig": {"NetworkMode": self._network},
            "NetworkingConfig": {"EndpointsConfig": {self._network: at}},
        }
        api("POST", "/containers/create", body, query={"name": self._name(number)})
        api("POST", f"/containers/{self._name(number)}/start")

    def _name(self, number: int) -> str:
        return f"{self._token}-plain-{number}"


def answers(proxy: RealTraefik, host: str) -> bool:
    """Whether the proxy routes requests to the service."""
    return proxy.get(host).status == HTTPStatus.OK


def config(proxy: RealTraefik, kind: str, drain_secs: float) -> str:
    """The configuration of an agent behind that proxy."""
    return (
        f'[networking]\nproxy = "{kind}"\ntraefik_dynamic_dir = "{proxy.directory}"\n'
        f'traefik_api = "{proxy.api_url}"\nentrypoints = ["web"]\ncert_resolver = ""\n'
        f'https_redirect_entrypoint = ""\ndrain_seconds = {drain_secs}\n'
    )


def measure(side: Side, proxy: RealTraefik, version: str, seconds: float, drain_secs: float, load: Any) -> None:
    """Run one switch of one side under load."""
    began = time.monotonic()
    with (
        RouteWatch(proxy.directory / FILE_NAME) as watch,
        Load(proxy.web, side.host, **load) as under_way,
    ):
        time.sleep(SETTLE_SECS)
        started = time.monotonic()
        side.switch(version)
        side.took.append(time.monotonic() - started)
        while time.monotonic() - began < seconds:
            time.sleep(0.1)
    report = under_way.report
    assert version in report.answers, f"nobody was answered by the new version: {report}"
    cut, in_time = watch.cut(report.ends, drain_secs)
    side.cut += len(cut)
    side.ended_in_time += len(in_time)
    side.reports.append(report)
    say(f"{side.host.partition('.')[0]}: {side.took[-1]:.1f} s, {len(cut)} websockets cut; {report}")


def run(rounds: int, seconds: float, drain_secs: float, load: dict[str, Any]) -> None:
    """Run the benchmark and print the result."""
    before = os.getloadavg()[0]
    token = new_token()
    docker = {"exposedByDefault": False, "constraints": f"Label(`syntra.project`, `{token}`)"}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        stack.callback(cleanup, token)
        web_image(f"{token}:v1")
        proxy = stack.enter_context(RealTraefik(folder / "proxy", throttle=None, docker=docker))
        sides: dict[str, Side] = {}
        for key, kind in (("file", "traefik-file"), ("labels", "traefik-labels")):
            agent = AgentProcess(folder / key, config=config(proxy, kind, drain_secs), command=SOURCE)
            host = f"{key}-{token}.example"
            service = AgentSide(stack.enter_context(agent), token, host)
            service.deploy("v0")
            sides[key] = Side(host=host, switch=service.deploy)
        plain = StopAndStart(token)
        plain.start("v0")
        sides["stop_start"] = Side(host=f"plain-{token}.example", switch=plain.switch)
        (proxy.directory / "plain.yml").write_text(json.dumps(plain.routes(sides["stop_start"].host)))
        for side in sides.values():
            wait_until(partial(answers, proxy, side.host), f"{side.host} answers")
        for number in range(1, rounds + 1):
            for side in sides.values():
                measure(side, proxy, f"v{number}", seconds, drain_secs, load)
    figures: dict[str, object] = {key: side.figures() for key, side in sides.items()}
    figures |= {"target_failed": 0, "replicas": REPLICAS, "rounds": rounds, "seconds": seconds}
    result("switch", {**figures, "drain_s": drain_secs, **load}, load_before=before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench switch", description="Count the requests that fail during a deploy, in three ways."
    )
    parser.add_argument("--rounds", type=int, default=2, help="deploys for each side (default 2)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="length of the load around each deploy (default 30)"
    )
    parser.add_argument("--drain", type=float, default=5.0, help="drain_seconds of the agents (default 5)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second (default 200)")
    parser.add_argument("--websockets", type=int, default=20, help="number of open websockets (default 20)")
    given = parser.parse_args()
    run(given.rounds, given.seconds, given.drain, {"rate": given.rate, "websockets": given.websockets})
