"""The verdict of rollouts on a real cluster: what the kubelet, the scheduler and the controllers really say."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from syntra.model.container_options import ContainerOptions
from syntra.model.image import ImageRef
from syntra.model.spec import Deployment, HealthKind, HealthSpec
from syntra.runtime.kubernetes.render import Rendered
from syntra.runtime.kubernetes.verdict import Done, Failed, Verdict, Waiting, judge
from tests.cluster import Cluster
from tests.engine import LocalRegistry
from tests.model.samples import deployment
from tests.runtime.kubernetes.rendering import rendered

# The cluster's own image of nothing but busybox, which no registry has.
IMAGE = ImageRef(registry="registry.local", repository="pause", tag="1")
SLEEP = "exec /busybox sleep 1000"
CHECK = HealthSpec(
    kind=HealthKind.TCP, path="/", port=None, command=(), interval=1.0, timeout=1.0, retries=2, start_period=0.0
)


def sample(token: str, script: str = SLEEP, **of: Any) -> Deployment:
    options = ContainerOptions(entrypoint=("/busybox", "sh", "-c"), stop_grace_secs=0)
    return deployment(**{"project_name": token, "image": IMAGE, "options": options, "command": (script,), **of})


def rollout(cluster: Cluster, made: Rendered, *, within: float, ahead: float = 0.0) -> tuple[Verdict, list[str]]:
    """The first verdict that is not to wait, and what was said until then; by a clock that is ahead by so many seconds
    after the first look."""
    namespace = made.namespace["metadata"]["name"]  # type: ignore[index]
    since = time.time()
    said: list[str] = []
    while True:
        found: dict[str, list[Any]] = {"Deployment": [], "ReplicaSet": [], "Pod": [], "Event": []}
        for item in cluster.get("deployments,replicasets,pods,events", "-n", str(namespace))["items"]:
            found[item["kind"]].append(item)
        verdict = judge(
            found["Deployment"][0],
            found["ReplicaSet"],
            found["Pod"],
            found["Event"],
            now=time.time() + (ahead if said else 0.0),
            since=since,
            deployment_id="dep_abc12345",
        )
        if not isinstance(verdict, Waiting):
            return verdict, said
        said.append(verdict.text)
        assert time.time() - since < within, said[-1]
        time.sleep(0.3)


def failure(cluster: Cluster, wanted: Deployment, code: str, *, within: float = 30.0, ahead: float = 0.0) -> Failed:
    made = rendered(wanted, min_healthy_secs=1.0)
    cluster.apply(made.objects)
    verdict, said = rollout(cluster, made, within=within, ahead=ahead)
    assert isinstance(verdict, Failed), verdict
    assert verdict.code == code, verdict
    assert said
    return verdict


def test_a_service_that_starts_is_done(cluster: Cluster, cluster_token: str) -> None:
    """Its command arrives as it was written."""
    wanted = sample(cluster_token, f"echo '$(SYNTRA_SERVICE_ID) $$ $(NO)'; echo \"$A\"; {SLEEP}", env={"A": "$(B) $$"})
    made = rendered(wanted, min_healthy_secs=1.0)
    cluster.apply(made.objects)
    verdict, said = rollout(cluster, made, within=30)
    assert verdict == Done()
    assert said, "it waits at first"
    log = cluster.kubectl("logs", "-n", f"syntra-{cluster_token}", "deployment/api")
    assert log == "$(SYNTRA_SERVICE_ID) $$ $(NO)\n$(B) $$\n"


def test_an_image_that_the_registry_does_not_have(cluster: Cluster, cluster_token: str, tmp_path: Path) -> None:
    with LocalRegistry(tmp_path) as registry:
        image = ImageRef(registry=registry.address, repository="shop/api", tag="9")
        found = failure(cluster, sample(cluster_token, image=image), "PULL_FAILED")
    assert found.sentence.endswith("not found; check the image's name, tag or digest"), found.sentence
    assert found.pod.startswith("api-")


def test_a_secret_that_is_missing(cluster: Cluster, cluster_token: str) -> None:
    made = rendered(sample(cluster_token, env={"A": "1"}))
    cluster.apply([made.namespace, made.workload])
    found, _ = rollout(cluster, made, within=30)
    assert isinstance(found, Failed) and found.code == "CREATE_FAILED"
    assert "secret" in found.sentence and "not found" in found.sentence


def test_a_command_that_the_image_does_not_have(cluster: Cluster, cluster_token: str) -> None:
    options = ContainerOptions(entrypoint=("/nowhere",))
    found = failure(cluster, sample(cluster_token, options=options, command=()), "START_FAILED")
    assert "/nowhere" in found.sentence


def test_a_crash_loop(cluster: Cluster, cluster_token: str) -> None:
    """Without a check a pod is ready while it runs, however short. Most of the time is the kubelet's back-off."""
    found = failure(cluster, sample(cluster_token, "exit 3"), "CONTAINER_CRASHED", within=60)
    assert "exited with code 3, 2 restarts" in found.sentence
    assert "BackOff: " in found.details


def test_a_check_that_keeps_failing(cluster: Cluster, cluster_token: str) -> None:
    found = failure(cluster, sample(cluster_token, health=CHECK), "HEALTH_CHECK_FAILED")
    assert "Readiness probe failed" in found.sentence


def test_a_start_period_that_is_too_short(cluster: Cluster, cluster_token: str) -> None:
    health = dataclasses.replace(CHECK, start_period=2.0)
    found = failure(cluster, sample(cluster_token, health=health), "HEALTH_CHECK_FAILED")
    assert "Startup probe failed" in found.sentence


def test_a_quota(cluster: Cluster, cluster_token: str) -> None:
    made = rendered(sample(cluster_token))
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": f"syntra-{cluster_token}"},
        "spec": {"hard": {"pods": "0"}},
    }
    cluster.apply([made.namespace, quota])
    found = failure(cluster, sample(cluster_token), "CREATE_FAILED")
    assert "exceeded quota" in found.sentence


def test_a_pod_that_no_node_takes(cluster: Cluster, cluster_token: str) -> None:
    found = failure(cluster, sample(cluster_token, memory_bytes=2**50), "START_FAILED", ahead=55.0)
    assert "Insufficient memory" in found.sentence
