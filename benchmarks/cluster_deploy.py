"""Updates a service in a cluster through the agent, next to `kubectl apply` and `kubectl rollout status`.

Both sides apply the same objects, made by the agent's renderer, to the same cluster, each in a namespace of its own.
They change the image in every round. `ours` is the time from the request to the report that all replicas are ready.
Only the agent also does this: a dry run before it changes anything, a journal on disk, a kept revision, and the removal
of what no version needs. `min_healthy_secs` is 0, and pods end without a grace.

A proxy before the API server counts the agent's requests: in each update, and in a quiet time with no update. The
memory of the agent (PSS) is measured with more pods that belong to it; these are never scheduled.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.agent import AgentProcess
from benchmarks.api_proxy import ApiProxy
from benchmarks.figures import compared, result, say
from benchmarks.processes import memory_kb
from syntra.cli.agent_client import ask, operate
from syntra.model.fields import Fields
from syntra.model.spec_payload import parse_deployment
from syntra.runtime.kubernetes.names import OWNER as OWNER_LABEL
from syntra.runtime.kubernetes.names import Slot
from syntra.runtime.kubernetes.objects import text
from syntra.runtime.kubernetes.render import RenderContext, Rendered, Routes, render
from tests.cluster import Cluster, running_cluster
from tests.cluster_images import VERSIONS, image, load_images
from tests.engine import PORT

TARGET = 1.1
NAMES = ("ours_s", "kubectl_s")
OPERATION_SECS = 120.0
OWNER = "agt-bench"
SETTLE_SECS = 5.0
DEPLOYS_AT_ONCE = 4
START_PERIOD_SECS = 60


def payload(project: str, version: str, replicas: int) -> dict[str, Any]:
    """One update of the service."""
    return {
        "deployment_id": f"dep_{uuid.uuid4().hex}",
        "service_id": f"svc_{project}",
        "service_name": "web",
        "project_name": project,
        "image": image(version),
        "config": {
            "port": PORT,
            "replicas": replicas,
            "stop_grace_seconds": 0,
            "health_check": {"type": "http", "path": "/health", "interval_seconds": 1},
        },
        "strategy": "rolling",
    }


def objects(update: dict[str, Any], replicas: int) -> Rendered:
    """What the agent applies for an update."""
    context = RenderContext(owner=OWNER, slot=Slot.BLUE, replicas=replicas, routes=Routes.NONE)
    return render(parse_deployment(Fields(update)), context)


class Comparison:
    """Rounds of both sides in turn."""

    def __init__(self, cluster: Cluster, agent: AgentProcess, proxy: ApiProxy, token: str, replicas: int) -> None:
        self._cluster = cluster
        self._agent = agent
        self._proxy = proxy
        self._token = token
        self._replicas = replicas
        self.ours: list[float] = []
        self.kubectl: list[float] = []
        self.calls: list[dict[str, int]] = []

    def round(self, number: int) -> None:
        """Update both sides once; the order alternates."""
        sides = [self._ours, self._kubectl]
        for side in reversed(sides) if number % 2 else sides:
            side(VERSIONS[number % 2])

    def _ours(self, version: str) -> None:
        self._proxy.taken()
        began = time.perf_counter()
        update = payload(f"{self._token}-ours", version, self._replicas)
        *_, last = operate(self._agent.socket, "deploy", update, idle=OPERATION_SECS)
        self.ours.append(time.perf_counter() - began)
        assert last["status"] == "running", f"the deployment failed: {last}"
        self.calls.append(self._proxy.taken())

    def _kubectl(self, version: str) -> None:
        wanted = objects(payload(f"{self._token}-kubectl", version, self._replicas), self._replicas)
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(wanted.objects)})
        namespace, name = (text(obj, "metadata", "name") for obj in (wanted.namespace, wanted.workload))
        began = time.perf_counter()
        self._cluster.kubectl("apply", "-f", "-", stdin=body)
        self._cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", timeout=OPERATION_SECS)
        self.kubectl.append(time.perf_counter() - began)

    def forget(self) -> None:
        """Discard what was measured so far."""
        self.ours, self.kubectl, self.calls = [], [], []


def idle_calls(proxy: ApiProxy, secs: float) -> dict[str, object]:
    """The agent's requests in a quiet time."""
    # What the last update has set off is over.
    time.sleep(SETTLE_SECS)
    proxy.taken()
    # The quiet time itself.
    time.sleep(secs)
    found = proxy.taken()
    return {"per_minute": round(60 * sum(found.values()) / secs, 1), "by_kind": found}


def with_services(agent: AgentProcess, token: str, services: int) -> None:
    """Deploy so many services of one replica, several at once."""

    def one(number: int) -> None:
        update = payload(f"{token}-services", VERSIONS[0], 1)
        update |= {"service_id": f"svc_{token}_{number}", "service_name": f"web{number}"}
        # So many starts at once are slow.
        update["config"]["health_check"]["start_period_seconds"] = START_PERIOD_SECS
        *_, last = operate(agent.socket, "deploy", update, idle=OPERATION_SECS)
        assert last["status"] == "running", f"the deployment failed: {last}"

    with ThreadPoolExecutor(DEPLOYS_AT_ONCE) as pool:
        for _ in pool.map(one, range(services)):
            continue


def pss_mb(agent: AgentProcess) -> float:
    """The agent's memory."""
    return round(memory_kb([agent.pid])["pss"] / 1024, 1)


def with_pods(cluster: Cluster, token: str, pods: int) -> None:
    """Pods of the agent that no node takes."""
    of_agent = cluster.get("-n", f"syntra-{token}-ours", "deployment", "web")["metadata"]["labels"][OWNER_LABEL]
    wanted = objects(payload(f"{token}-many", VERSIONS[0], 1), 1)
    workload: Any = wanted.workload
    workload["spec"]["replicas"] = pods
    for metadata in (workload["metadata"], workload["spec"]["template"]["metadata"]):
        metadata["labels"][OWNER_LABEL] = of_agent
    workload["spec"]["template"]["spec"]["nodeSelector"] = {"syntra.test/nowhere": "true"}
    cluster.apply([wanted.namespace, *wanted.supports, workload])
    namespace = workload["metadata"]["namespace"]
    deadline = time.monotonic() + OPERATION_SECS
    while len(cluster.get("-n", namespace, "pods")["items"]) < pods:
        assert time.monotonic() < deadline, "the pods were not made"
        # The list of hundreds of pods is not asked for all the time.
        time.sleep(1.0)


def run(rounds: int, replicas: int, pods: int, services: int, idle_secs: float) -> None:
    """Run the benchmark and print the result."""
    load = os.getloadavg()[0]
    cluster = running_cluster()
    load_images(cluster)
    token = f"b{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as name, ApiProxy(cluster.kubeconfig) as proxy:
        folder = Path(name)
        config = (
            f'agent_id = "{OWNER}"\n[runtime]\nruntime_type = "kubernetes"\nmin_healthy_secs = 0\n'
            f'kubernetes_config = "{proxy.kubeconfig(folder / "kubeconfig")}"\n[telemetry]\nreceivers = "off"\n'
        )
        try:
            with AgentProcess(folder / "agent", config=config) as agent:
                comparison = Comparison(cluster, agent, proxy, token, replicas)
                for number in range(rounds + 1):
                    comparison.round(number)
                    say(f"round {number}: ours {comparison.ours[-1]:.2f} s, kubectl {comparison.kubectl[-1]:.2f} s")
                    if number == 0:
                        comparison.forget()
                before = pss_mb(agent)
                quiet = idle_calls(proxy, idle_secs)
                with_services(agent, token, services - 1)
                quiet_with_services = idle_calls(proxy, idle_secs)
                with_pods(cluster, token, pods)
                # The watch has told the agent of all of them.
                time.sleep(SETTLE_SECS)
                after = pss_mb(agent)
                ask(agent.socket, "status", {}, timeout=30)
        finally:
            for project in ("ours", "kubectl", "services", "many"):
                cluster.kubectl(
                    "delete", "namespace", "--ignore-not-found", "--wait=false", f"syntra-{token}-{project}"
                )
    figures = compared(comparison.ours, comparison.kubectl, names=NAMES)
    result(
        "deploy on kubernetes",
        {
            **figures,
            "target": TARGET,
            "replicas": replicas,
            "rounds": rounds,
            "calls": {
                "deploy": statistics.median(sum(one.values()) for one in comparison.calls),
                "idle": quiet,
                f"idle_with_{services}_services": quiet_with_services,
            },
            "calls_of_one_deploy": comparison.calls[-1],
            "pss_mb": {"idle": before, f"with_{pods}_pods": after},
        },
        load_before=load,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="scripts/bench deploy --runtime kubernetes",
        description="Compare updating a service in a cluster with kubectl apply and kubectl rollout status.",
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds for each side (default 7)")
    parser.add_argument("--replicas", type=int, default=3, help="replicas of the service (default 3)")
    parser.add_argument("--pods", type=int, default=500, help="pods for the agent's memory (default 500)")
    parser.add_argument("--services", type=int, default=100, help="services in the second quiet time (default 100)")
    parser.add_argument("--idle-seconds", type=float, default=60.0, help="length of the quiet time (default 60)")
    given = parser.parse_args()
    run(given.rounds, given.replicas, given.pods, given.services, given.idle_seconds)
