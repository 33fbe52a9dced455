"""An agent whose user has rights in some namespaces of a cluster only."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from syntra.runtime.kubernetes.rights import rules
from tests.cluster import Cluster, cluster, cluster_token
from tests.cluster_account import Account, account
from tests.cluster_images import cluster_images, image
from tests.e2e.agent_process import AgentProcess
from tests.engine import wait_until

__all__ = ["account", "cluster", "cluster_images", "cluster_token"]

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


def payload(project: str) -> dict[str, Any]:
    return {
        "service_id": f"svc-{project}",
        "deployment_id": f"d-{uuid.uuid4().hex[:8]}",
        "service_name": "web",
        "project_name": project,
        "image": image("v1"),
        "config": {"port": 8080, "replicas": 1},
        "timeout_seconds": 60,
    }


def test_it_works_where_it_may_and_names_what_it_lacks_elsewhere(
    account: Account, cluster: Cluster, cluster_images: str, cluster_token: str, tmp_path: Path
) -> None:
    full, partial, other = (f"{cluster_token}-{name}" for name in ("full", "partial", "other"))
    for project in (full, partial):
        # An administrator made them, and they have no label of the agent's.
        cluster.kubectl("create", "namespace", f"syntra-{project}")
    account.grant_in(account.namespace, [rule for rule in rules() if rule["resources"] == ["leases"]])
    account.grant_in(f"syntra-{full}", rules())
    account.grant_in(f"syntra-{partial}", [rule for rule in rules() if rule["resources"] == ["services"]])
    config = (
        f'[runtime]\nruntime_type = "kubernetes"\nkubernetes_config = "{account.kubeconfig}"\nmin_healthy_secs = 0\n'
        f'[kubernetes]\nnamespaces = ["syntra-{full}", "syntra-{partial}"]\n'
    )
    with AgentProcess(tmp_path / "agent", config=config) as agent:

        def warnings() -> str:
            return " ".join(agent.ask("status", {})["data"]["warnings"])

        report = agent.carry_out("deploy", payload(full))
        assert report["status"] == "running", report
        wait_until(lambda: "lacks" in warnings(), "what it lacks")
        assert "get pods/log, get/create pods/exec" in warnings()
        assert f" in namespace syntra-{partial}; apply the ClusterRole" in warnings()
        assert f"syntra-{full}" not in warnings()
        answer = agent.ask("exec", {"service_id": f"svc-{full}", "command": ["echo", "hello"]})
        assert answer["data"]["stdout"] == "hello\n", answer

        refused = agent.carry_out("deploy", payload(partial))
        assert refused["status"] == "failed" and "forbidden" in refused["error"]["message"], refused
        outside = agent.carry_out("deploy", payload(other))
        assert outside["error"]["code"] == "NAMESPACE_NOT_ALLOWED", outside

        removed = agent.carry_out("stop", {"service_id": f"svc-{full}", "timeout_seconds": 1, "remove_container": True})
        assert removed["success"], removed
    assert cluster.get("deployments", "-n", f"syntra-{full}")["items"] == []
    # It is the administrator's.
    assert cluster.get("namespace", f"syntra-{full}")["status"]["phase"] == "Active"
