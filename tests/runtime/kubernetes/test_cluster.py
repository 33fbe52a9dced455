"""What the agent reads of a cluster, when the API server goes away in the middle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syntra.model.ids import ServiceId
from syntra.runtime.errors import RuntimeUnavailable
from syntra.runtime.kubernetes.cluster import Cluster
from syntra.runtime.kubernetes.errors import ApiRefusal
from syntra.runtime.kubernetes.runtime import KubernetesRuntime
from syntra.runtime.kubernetes.settings import KubernetesSettings
from tests.runtime.kubernetes.fake_api import Request, answer, client_of, fake_api, refusal

KINDS = 10
GROUPS = answer({"groups": [{"name": "apps"}]})


async def _cut(request: Request) -> None:
    """Close without an answer."""


async def test_a_server_that_goes_away_between_two_lists_is_away(tmp_path: Path) -> None:
    async with fake_api(GROUPS, *[_cut] * KINDS) as api, client_of(api, tmp_path) as client:
        with pytest.raises(RuntimeUnavailable):
            await Cluster(client, owner="a").all_objects(ServiceId("svc"))


async def test_a_right_that_lacks_is_a_refusal(tmp_path: Path) -> None:
    lists = [refusal(403, "Forbidden", "secrets is forbidden")] * KINDS
    async with fake_api(GROUPS, *lists) as api, client_of(api, tmp_path) as client:
        with pytest.raises(ApiRefusal, match="is forbidden"):
            await Cluster(client, owner="a").all_objects(ServiceId("svc"))


async def test_a_ping_asks_only_when_no_answer_came_lately(tmp_path: Path) -> None:
    async with fake_api(GROUPS, _cut, answer("ok"), GROUPS) as api, client_of(api, tmp_path) as client:
        runtime = KubernetesRuntime(client, KubernetesSettings(), owner="a")
        await client.get("/apis")
        await runtime.ping()
        assert client.calls == 1
        with pytest.raises(RuntimeUnavailable):
            await client.call("POST", "/apis")
        await runtime.ping()
        assert [request.line.split()[1] for request in api.requests][-1] == "/readyz"


async def test_before_the_first_list_a_reader_hears_at_once_why_there_is_none(tmp_path: Path) -> None:
    lists = [refusal(403, "Forbidden", "pods is forbidden")] * 30
    async with fake_api(*lists) as api, client_of(api, tmp_path) as client, asyncio.TaskGroup() as group:
        cluster = Cluster(client, owner="a")
        watching = group.create_task(cluster.watch(lambda: None), name="watch")
        async with asyncio.timeout(3):
            while len(cluster.problems) < 1:
                await asyncio.sleep(0.01)
            with pytest.raises(RuntimeUnavailable, match="pods is forbidden"):
                while True:
                    await cluster.replicas()
        watching.cancel()
