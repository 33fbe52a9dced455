"""The lease: who may take it, and that one of two agents acts, on a real API server with clocks that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syntra.runtime.errors import RuntimeUnavailable
from syntra.runtime.kubernetes.access import Access, Source
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.lease import Lease, LeaseLost, may_take, taken
from tests.cluster import Cluster

NOW_NS = 1_800_000_000_123_456_789


@pytest.mark.parametrize(
    ("holder", "duration", "unchanged_secs", "allowed"),
    [
        ("", 15, 0.0, True),
        ("me", 15, 0.0, True),
        ("other", 15, 0.0, False),
        ("other", 15, 14.9, False),
        ("other", 15, 15.0, True),
        ("other", 60, 15.0, False),
        ("other", None, 14.9, False),
        ("other", None, 15.0, True),
    ],
)
def test_a_lease_is_taken_when_it_is_free_or_has_not_changed_for_its_duration(
    holder: str, duration: int | None, unchanged_secs: float, allowed: bool
) -> None:
    spec: dict[str, Any] = {"holderIdentity": holder, "leaseDurationSeconds": duration}
    assert may_take({"spec": spec}, "me", unchanged_secs=unchanged_secs) is allowed


def test_a_lease_that_does_not_exist_is_free() -> None:
    assert may_take({}, "me", unchanged_secs=0.0)


def test_a_lease_counts_its_holders_and_keeps_the_time_of_the_current_one() -> None:
    first = taken({"metadata": {"resourceVersion": "7"}, "spec": {}}, "me", now_ns=NOW_NS)
    time = "2027-01-15T08:00:00.123456Z"
    assert first == {
        "metadata": {"resourceVersion": "7"},
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "acquireTime": time,
            "renewTime": time,
            "leaseTransitions": 1,
        },
    }
    renewed = taken(first, "me", now_ns=NOW_NS + 5_000_000_000)["spec"]
    assert isinstance(renewed, dict)
    assert (renewed["acquireTime"], renewed["renewTime"], renewed["leaseTransitions"]) == (
        time,
        "2027-01-15T08:00:05.123456Z",
        1,
    )
    other = taken(first, "other", now_ns=NOW_NS)["spec"]
    assert isinstance(other, dict)
    assert (other["holderIdentity"], other["leaseTransitions"]) == ("other", 2)


def test_a_released_lease_is_free_at_once() -> None:
    released = taken({"spec": {"holderIdentity": "me", "leaseTransitions": 3}}, "", now_ns=NOW_NS)
    assert may_take(released, "other", unchanged_secs=0.0)
    spec = released["spec"]
    assert isinstance(spec, dict)
    assert (spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (1, 3)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Agent:
    """A lease with a clock, and the task that keeps it."""

    def __init__(self, lease: Lease, clock: Clock, task: asyncio.Task[None]) -> None:
        self.lease = lease
        self.clock = clock
        self.task = task


@asynccontextmanager
async def agent(kubeconfig: Path, owner: str, holder: str) -> AsyncIterator[Agent]:
    """One agent of an owner; its lease is in the namespace `default`."""
    clock = Clock()
    async with KubernetesClient(await Access.open(Source(kubeconfig=str(kubeconfig)))) as client:
        lease = Lease(client, namespace="default", owner=owner, holder=holder, clock=clock)
        # A task of its own, which ends by itself when the lease is lost.
        task = asyncio.get_running_loop().create_task(lease.run())
        try:
            yield Agent(lease, clock, task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Any, within_secs: float = 20.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within_secs):
        while not condition():
            await asyncio.sleep(0.05)


async def test_one_of_two_agents_acts_and_the_other_takes_over(cluster: Cluster, cluster_token: str) -> None:
    name = f"syntra-agent-{cluster_token}"
    try:
        async with agent(cluster.kubeconfig, cluster_token, "first") as first:
            await until(first.lease.turn.is_set)
            assert first.lease.hindrance == ""
            async with agent(cluster.kubeconfig, cluster_token, "second") as second:
                await until(lambda: second.lease.standby)
                assert second.lease.standby == (
                    f"another agent with the same id acts: first holds lease default/{name}; this one waits; "
                    "send commands to that one, or stop it"
                )
                # Each renewal starts the second's wait again.
                second.clock.now += 14.0
                await asyncio.sleep(6.0)
                second.clock.now += 14.0
                await asyncio.sleep(3.0)
                assert not second.lease.turn.is_set()
                # The first hangs: it renews no more, and by its own clock it stops to act before another may begin.
                first.task.cancel()
                first.clock.now += 10.0
                assert "was not renewed for" in first.lease.hindrance
                second.clock.now += 15.0
                await until(second.lease.turn.is_set)
                assert second.lease.hindrance == ""
                assert cluster.get("lease", name)["spec"]["holderIdentity"] == "second"
                with pytest.raises(LeaseLost, match="agent second has taken lease default/"):
                    await first.lease.run()
                await second.lease.release()
                assert cluster.get("lease", name)["spec"]["holderIdentity"] == ""
    finally:
        cluster.kubectl("delete", "lease", name, "--ignore-not-found")


async def test_an_agent_that_starts_again_takes_its_own_lease_at_once(cluster: Cluster, cluster_token: str) -> None:
    name = f"syntra-agent-{cluster_token}"
    try:
        for _ in range(2):
            async with agent(cluster.kubeconfig, cluster_token, "same") as one:
                await until(one.lease.turn.is_set, within_secs=10.0)
        assert cluster.get("lease", name)["spec"]["leaseTransitions"] == 1
    finally:
        cluster.kubectl("delete", "lease", name, "--ignore-not-found")


async def test_a_client_changes_nothing_without_the_lease(cluster: Cluster, cluster_token: str) -> None:
    async with KubernetesClient(await Access.open(Source(kubeconfig=str(cluster.kubeconfig)))) as client:
        client.hindrance = lambda: "another agent acts"
        obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"syntra-{cluster_token}"}}
        with pytest.raises(RuntimeUnavailable, match=r"cannot apply Namespace .*: another agent acts"):
            await client.apply({**obj})
        assert (await client.get("/version"))["major"] == "1"
        assert cluster_token not in cluster.kubectl("get", "namespaces", "-o", "name")
