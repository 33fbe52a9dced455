"""The agent in a cluster, as `install --kubernetes` puts it there: it deploys with the rights that it was given."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, Refused, cluster, cluster_token
from tests.e2e.agent_image import write_agent_image
from tests.e2e.program import AGENT
from tests.e2e.telemetry_stage import span_request
from tests.engine import wait_until

__all__ = ["cluster", "cluster_token"]

POD_BRIDGE = "kubepods0"

SERVICE = """\
name: web
project: {token}
image: {image}
command: ["/bin/sh", "-c", "echo serving {version}; exec busybox httpd -f -p 8080 -h /etc"]
port: 8080
health_check: {{type: tcp, interval_seconds: 1}}
"""


@pytest.fixture
def image(cluster: Cluster, cluster_token: str, built_binary: Path, tmp_path: Path) -> str:
    """The image of the compiled agent, loaded into the cluster."""
    reference, file = f"registry.local/{cluster_token}:1", tmp_path / "image.tar"
    write_agent_image(file, reference, built_binary)
    cluster.load(file)
    file.unlink()
    return reference


class InCluster:
    """The agent's pod, and the command line outside and inside it."""

    def __init__(self, cluster: Cluster, namespace: str, image: str) -> None:
        self._cluster = cluster
        self.namespace = namespace
        self._image = image

    def outside(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        """`install` or `uninstall`, as an operator runs it."""
        place = ["--kubernetes", "--kubeconfig", str(self._cluster.kubeconfig), "--namespace", self.namespace]
        return subprocess.run(
            [*AGENT, verb, *place, *words],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            env={k: v for k, v in os.environ.items() if not k.startswith("SYNTRA_")},
        )

    def install(self) -> None:
        """Install it without a volume: the cluster of the tests has no storage class."""
        ended = self.outside("install", "--image", self._image, "--no-volume", "--wait=90")
        assert ended.returncode == 0, ended.stderr + ended.stdout
        assert f"the agent runs in namespace {self.namespace}" in ended.stdout

    def inside(self, *words: str, stdin: str | None = None) -> str:
        """The command line in the agent's pod; raises Refused."""
        return self._cluster.kubectl(
            "exec", "-i", "-n", self.namespace, "deploy/syntra-agent", "--", "syntra-agent", *words, stdin=stdin
        )

    def services(self) -> Any:
        """What `ps` says."""
        return json.loads(self.inside("ps", "--json"))["services"]


@pytest.fixture
def agent(cluster: Cluster, cluster_token: str, image: str) -> Iterator[InCluster]:
    """An installed agent."""
    found = InCluster(cluster, f"agent-{cluster_token}", image)
    try:
        found.install()
        yield found
    finally:
        for kind in ("clusterrolebinding", "clusterrole"):
            cluster.kubectl("delete", kind, f"syntra-agent:{found.namespace}", "--ignore-not-found")


@pytest.fixture
def pods_reach_pods() -> Iterator[None]:
    """A Docker engine on the same machine drops what it does not forward itself."""
    rule = ["FORWARD", "-i", POD_BRIDGE, "-o", POD_BRIDGE, "-j", "ACCEPT"]
    subprocess.run(["iptables", "-I", *rule], check=True, timeout=10)
    yield
    subprocess.run(["iptables", "-D", *rule], check=True, timeout=10)


def span_arrives(cluster: Cluster, agent: InCluster) -> None:
    """A pod of the service sends the agent's Service a span, which counts as the pod's whatever it says of itself."""
    # By its address: the cluster of the tests has no DNS.
    address = cluster.get("service", "syntra-agent", "-n", agent.namespace)["spec"]["clusterIP"]
    body = span_request(uuid.uuid4().hex, "somebody-else").decode()
    header = "Content-Type: application/json"
    # Without -T: with it, busybox crashes.
    send = f"busybox wget -q -O - --header '{header}' --post-data '{body}' http://{address}:4318/v1/traces"
    agent.inside("exec", "web", "--", "/bin/sh", "-c", send)
    [web] = agent.services()

    def senders() -> list[str]:
        services = json.loads(agent.inside("telemetry", "status", "--json"))["services"]
        return [one["service_id"] for one in services if one["received"].get("traces")]

    wait_until(lambda: senders() == [web["service_id"]], "the span counts as the service's", 20)


@pytest.mark.soak
@pytest.mark.usefixtures("pods_reach_pods")
def test_an_installed_agent_does_everything_with_its_own_rights(
    cluster: Cluster, cluster_token: str, agent: InCluster, image: str
) -> None:
    def service(version: str) -> str:
        return SERVICE.format(token=cluster_token, image=image, version=version)

    status = json.loads(agent.inside("status", "--json"))
    assert status["runtime"]["name"] == "kubernetes"
    assert status["warnings"] == []

    agent.inside("deploy", "-", stdin=service("v1"))
    agent.inside("deploy", "-", stdin=service("v2"))
    agent.inside("scale", "web", "2")
    agent.inside("restart", "web")
    assert agent.inside("exec", "web", "--", "/bin/sh", "-c", "echo from the pod") == "from the pod\n"
    assert "serving v2" in agent.inside("logs", "web")
    span_arrives(cluster, agent)
    agent.inside("rollback", "web")
    assert "serving v1" in agent.inside("logs", "web")
    assert [(one["service_name"], one["replicas"]["running"]) for one in agent.services()] == [("web", 2)]
    assert json.loads(agent.inside("status", "--json"))["warnings"] == []

    # Its data are gone with its pod, and the next pod finds the service again.
    before = json.loads(agent.inside("status", "--json"))["agent"]
    cluster.kubectl("delete", "pod", "-n", agent.namespace, "-l", "app.kubernetes.io/name=syntra-agent")
    cluster.kubectl("rollout", "status", "-n", agent.namespace, "deploy/syntra-agent", "--timeout=60s", timeout=70)
    wait_until(lambda: [one["service_name"] for one in agent.services()] == ["web"], "the service", 20)
    # It has only just started, and may not know how the replicas are.
    after = json.loads(agent.inside("status", "--json", "--exit-zero"))["agent"]
    assert (after["agent_id"], after["server_id"]) == (before["agent_id"], before["server_id"])
    agent.inside("stop", "web", "--remove")
    assert agent.services() == []

    # A second install changes nothing; the uninstall takes what the install brought.
    generation = cluster.get("deploy", "syntra-agent", "-n", agent.namespace)["metadata"]["generation"]
    agent.install()
    assert cluster.get("deploy", "syntra-agent", "-n", agent.namespace)["metadata"]["generation"] == generation
    ended = agent.outside("uninstall")
    assert ended.returncode == 0, ended.stderr
    assert "removed; the services keep running" in ended.stdout
    with pytest.raises(Refused, match="not found"):
        cluster.kubectl("get", "clusterrole", f"syntra-agent:{agent.namespace}")
    wait_until(lambda: agent.namespace not in cluster.kubectl("get", "namespaces", "-o", "name"), "its end", 30)
    assert "nothing to do" in agent.outside("uninstall").stdout


def test_an_install_that_cannot_run_says_why(cluster: Cluster, cluster_token: str) -> None:
    found = InCluster(cluster, f"agent-{cluster_token}", "registry.local:1/no-such-image:1")
    try:
        ended = found.outside("install", "--image=registry.local:1/none:1", "--no-volume", "--wait=0")
        assert ended.returncode == 1
        assert ended.stderr.startswith("cannot start the agent: ")
        assert "uninstall --kubernetes" in ended.stderr
        cluster.kubectl("create", "configmap", "-n", found.namespace, "of-others")
        cluster.kubectl("create", "service", "clusterip", "-n", found.namespace, "of-others", "--tcp=80")
        ended = found.outside("uninstall")
        assert ended.returncode == 0, ended.stderr
        assert f"namespace {found.namespace} stays: it has Service of-others" in ended.stdout
        left = cluster.kubectl("get", "deploy,svc,secret,sa,rs,pod", "-n", found.namespace, "-o", "name").split()
        assert sorted(left) == ["service/of-others", "serviceaccount/default"]
    finally:
        for kind in ("clusterrolebinding", "clusterrole"):
            cluster.kubectl("delete", kind, f"syntra-agent:{found.namespace}", "--ignore-not-found")
