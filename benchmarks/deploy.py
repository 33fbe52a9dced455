"""Deploys and removes a service through the agent, next to a bare client that makes only the engine calls.

Both sides use the same engine, registry (on loopback) and image, which is removed before every pull; a new bridge
network per deployment; the same container settings (compared by inspection in every round). Replicas are created and
started one after another, and polled at /health until they answer 200. Then they are stopped (SIGTERM) and removed,
five at a time; then the image and the network are removed. `deploy` is the time from the request to the report that all
replicas are healthy, `removal` the time from the request to the answer that all is removed.

Only the agent does this: it syncs a journal to disk before each step, sends statuses over its socket, observes before
it plans, pins the image with a tag, inspects each container again after its healthy answer, and switches the restart
policy off before a stop. The ratio shows what that costs. `min_healthy_secs` is 0, since the bare client does not wait
either.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.agent import SOURCE, AgentProcess
from benchmarks.bare import BareClient, settings_of
from benchmarks.figures import compared, result, say
from syntra.cli.agent_client import ask, operate
from tests.engine import PORT, EngineRefused, LocalRegistry, api, busybox_image, cleanup, new_token

TARGET = 1.15
NAMES = ("ours_s", "bare_s")
OPERATION_SECS = 120.0
MANAGED_SERVICE = "syntra.service_id"


@dataclass(slots=True)
class Side:
    """The samples of one side, in seconds."""

    deploy: list[float] = field(default_factory=list)
    removal: list[float] = field(default_factory=list)

    @property
    def total(self) -> list[float]:
        """Deploy plus removal, per round."""
        return [a + b for a, b in zip(self.deploy, self.removal, strict=True)]


class Comparison:
    """Rounds of both sides in turn, for one number of replicas."""

    def __init__(self, agent: AgentProcess, image: str, token: str, replicas: int) -> None:
        self._agent = agent
        self._image = image
        self._token = token
        self._replicas = replicas
        self.ours = Side()
        self.bare = Side()

    def round(self, number: int) -> None:
        """Run both sides once; the order alternates."""
        sides: list[Callable[[str], dict[str, Any]]] = [self._ours, self._bare]
        if number % 2:
            sides.reverse()
        settings = []
        for side in sides:
            remove_image(self._image)
            settings.append(side(f"{self._token}-{self._replicas}-{number}"))
        assert settings[0] == settings[1], f"the two sides made different containers: {settings}"

    def _ours(self, project: str) -> dict[str, Any]:
        service, socket = f"{self._token}-ours", self._agent.socket
        payload = {
            "deployment_id": f"dep_{uuid.uuid4().hex}",
            "service_id": service,
            "service_name": "ours",
            "project_name": project,
            "image": self._image,
            "config": {
                "port": PORT,
                "replicas": self._replicas,
                "health_check": {"type": "http", "path": "/health", "port": PORT},
            },
            "strategy": "rolling",
        }
        began = time.perf_counter()
        *_, last = operate(socket, "deploy", payload, idle=OPERATION_SECS)
        self.ours.deploy.append(time.perf_counter() - began)
        assert last["status"] == "running", f"the deployment failed: {last}"
        made = containers_with(f"{MANAGED_SERVICE}={service}")
        assert len(made) == self._replicas, f"{len(made)} containers instead of {self._replicas}"
        settings = settings_of(api("GET", f"/containers/{made[0]}/json"))
        began = time.perf_counter()
        answer = ask(socket, "stop", {"service_id": service, "remove_container": True}, timeout=OPERATION_SECS)
        self.ours.removal.append(time.perf_counter() - began)
        assert answer["completed"] is True, f"the removal was not completed: {answer}"
        assert not containers_with(f"{MANAGED_SERVICE}={service}"), "containers were left"
        assert not image_names(self._image), "the image was left"
        assert not networks_of(project), "the network was left"
        return settings

    def _bare(self, project: str) -> dict[str, Any]:
        with BareClient(self._token) as client:
            began = time.perf_counter()
            made = client.deploy(self._image, project, self._replicas)
            self.bare.deploy.append(time.perf_counter() - began)
            settings = settings_of(api("GET", f"/containers/{made[0]}/json"))
            began = time.perf_counter()
            client.remove(made, self._image, project)
            self.bare.removal.append(time.perf_counter() - began)
        assert not image_names(self._image), "the image was left"
        assert not networks_of(project), "the network was left"
        return settings

    def figures(self) -> dict[str, object]:
        """Medians of the total and of its parts."""
        return {
            **compared(self.ours.total, self.bare.total, names=NAMES),
            "deploy": compared(self.ours.deploy, self.bare.deploy, names=NAMES),
            "removal": compared(self.ours.removal, self.bare.removal, names=NAMES),
            "rounds": len(self.ours.deploy),
        }


def containers_with(label: str) -> list[str]:
    """Ids of the containers, running or not, that have a label."""
    listed = api("GET", "/containers/json", query={"all": "1", "filters": f'{{"label":["{label}"]}}'})
    return [str(item["Id"]) for item in listed]


def image_names(image: str) -> list[str]:
    """Every tag and digest of the image in the engine."""
    try:
        details = api("GET", f"/images/{urllib.parse.quote(image, safe='')}/json")
    except EngineRefused:
        return []
    return [*details["RepoTags"], *details["RepoDigests"]]


def remove_image(image: str) -> None:
    """Remove the image, so that the next pull transfers the layers again."""
    for name in image_names(image):
        try:
            api("DELETE", f"/images/{urllib.parse.quote(name, safe='')}", query={"force": "1"})
        except EngineRefused as refused:
            if refused.status != 404:
                raise


def networks_of(project: str) -> list[str]:
    """Names of the project's networks, on both sides."""
    return [str(network["Name"]) for network in api("GET", "/networks") if project in network["Name"]]


def run(rounds: int, replicas: Sequence[int]) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    token = new_token()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with LocalRegistry(Path(folder) / "registry") as registry:
                local = f"{token}:1"
                busybox_image(local)
                registry.push(local, token, "1")
                remove_image(local)
                image = f"{registry.address}/{token}:1"
                config = "[runtime]\nmin_healthy_secs = 0\n"
                with AgentProcess(Path(folder) / "agent", config=config, command=SOURCE) as agent:
                    figures = {f"replicas_{n}": measure(agent, image, token, n, rounds) for n in replicas}
        finally:
            cleanup(token)
    worst = max(float(str(part["ratio"])) for part in figures.values())
    result("deploy", {**figures, "ratio": worst, "target": TARGET}, load_before=load)


def measure(agent: AgentProcess, image: str, token: str, replicas: int, rounds: int) -> dict[str, object]:
    """All rounds with one number of replicas; the first is discarded, as it warms caches on both sides."""
    comparison = Comparison(agent, image, token, replicas)
    comparison.round(0)
    comparison.ours, comparison.bare = Side(), Side()
    for number in range(1, rounds + 1):
        comparison.round(number)
        ours, bare = comparison.ours.total[-1], comparison.bare.total[-1]
        say(f"{replicas} replicas, round {number}: ours {ours:.3f} s, bare {bare:.3f} s")
    return comparison.figures()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench deploy",
        description="Compare deploying and removing a service with the bare Engine API calls.",
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds for each side (default 7)")
    parser.add_argument(
        "--replicas", type=int, nargs="+", default=[1, 10], help="replicas of the service (default 1 10)"
    )
    given = parser.parse_args()
    run(given.rounds, given.replicas)
