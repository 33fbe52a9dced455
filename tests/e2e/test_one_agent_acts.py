"""Two agents with one id on a cluster: one acts, the other waits and takes over, and the first then ends."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

from tests.cluster import Cluster, cluster, cluster_token
from tests.e2e.agent_process import AgentProcess
from tests.e2e.program import AGENT
from tests.engine import wait_until

__all__ = ["cluster", "cluster_token"]


def agent_of(folder: Path, kubeconfig: Path) -> AgentProcess:
    runtime = f'[runtime]\nruntime_type = "kubernetes"\nkubernetes_config = "{kubeconfig}"\n'
    return AgentProcess(folder, config=runtime)


def said(agent: AgentProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, on the agent's socket."""
    command = [*AGENT, *words, "--socket", str(agent.socket)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def warnings(agent: AgentProcess) -> list[str]:
    found: list[str] = json.loads(said(agent, "status", "--json").stdout)["warnings"]
    return found


def test_the_second_agent_waits_and_takes_over_from_one_that_hangs(
    cluster: Cluster, cluster_token: str, tmp_path: Path
) -> None:
    space = f"lease-{cluster_token}"
    cluster.kubectl("create", "namespace", space)
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    config["contexts"][0]["context"]["namespace"] = space
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))

    first, second = agent_of(tmp_path / "first", kubeconfig), agent_of(tmp_path / "second", kubeconfig)
    with first:
        wait_until(lambda: warnings(first) == [], "the first agent's turn", 20)
        (lease,) = cluster.get("leases", "-n", space)["items"]
        holder = lease["spec"]["holderIdentity"]
        shutil.copytree(first.data_dir, second.data_dir)
        with second:
            waits = f"another agent with the same id acts: {holder} holds lease {space}/{lease['metadata']['name']}; "
            wait_until(lambda: [one for one in warnings(second) if one.startswith(waits)], "the second's wait", 20)
            refused = second.ask("stop", {"service_id": "svc"})
            assert (refused["success"], refused["error"]["code"]) == (False, "BUSY")
            assert waits in refused["error"]["message"]

            first.signal(signal.SIGSTOP)
            try:
                wait_until(lambda: warnings(second) == [], "the second agent's turn", 40)
            finally:
                first.signal(signal.SIGCONT)
            assert first.process is not None
            assert first.process.wait(20) == 1
            assert "has taken lease" in first.text()
            assert second.stop() == 0
    (lease,) = cluster.get("leases", "-n", space)["items"]
    assert lease["spec"]["holderIdentity"] == ""
