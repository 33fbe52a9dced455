"""What an image declares as volumes is kept by an agent that is killed at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.runtime.containers.volumes import is_anonymous
from tests.agent.agent_rig import running, until_killed
from tests.agent.fake_engine import FakeEngine
from tests.agent.samples import deployment

pytestmark = pytest.mark.virtual_time


DECLARED = frozenset({"/data"})


def engine() -> FakeEngine:
    made = FakeEngine()
    made.declared = {f"shop/web:{version}": DECLARED for version in (1, 2, 3)}
    return made


def mounted(made: FakeEngine) -> list[str]:
    return [mount.source for container in made.of("web") if container.is_up for mount in container.mounts]


async def test_a_first_deploy_knows_the_volumes_once_its_image_is_here(tmp_path: Path) -> None:
    made = engine()
    async with running(tmp_path, made) as agent:
        await agent.deployed("d1")
        assert mounted(made) == ["shop_web_data_1"]
        report = await agent.end_of("setup-web-d1")
        assert "known once" not in report["message"]


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
async def test_a_deploy_killed_at_any_call_keeps_the_volumes_and_one_writer(tmp_path: Path, after: bool) -> None:
    number, reached = 2, True
    while reached:
        number += 1
        made = engine()
        directory = tmp_path / str(number)
        async with running(directory, made) as agent:
            await agent.deployed("d1", config={"replicas": 2})
        made.forget_the_past()
        made.kill_at, made.kill_after_effect = number, after
        async with until_killed(directory, made) as agent:
            await agent.deploy("r", "d2", config={"replicas": 2})
            reached = await agent.killed_or_done()
        made.kill_at = None
        async with running(directory, made) as agent:
            await agent.done()
            assert await agent.outcome("r") == "running"
        assert made.up("web") == ["d2", "d2"]
        assert sorted(mounted(made)) == ["shop_web_data_1", "shop_web_data_2"]
        assert made.least_up["web"] == 1  # type: ignore[index]
        assert made.most_up == 2, "a volume never has two writers"


async def test_a_volume_without_a_name_is_taken_over_by_deploys(tmp_path: Path) -> None:
    made = engine()
    async with running(tmp_path, made) as agent:
        await agent.deployed("d1", config={"image_volumes": "discard"})
        [anonymous] = mounted(made)
        assert is_anonymous(anonymous)
        for version in ("d2", "d3"):
            await agent.deployed(version)
            assert mounted(made) == [anonymous]
        assert anonymous in made.volumes


async def test_a_missing_external_volume_refuses_a_deploy_and_stops_no_stop(tmp_path: Path) -> None:
    made = engine()
    external = {"volumes": [{"name": "shared", "container_path": "/s", "external": True}]}
    async with running(tmp_path, made) as agent:
        await agent.deploy("r", "d1", config=external)
        [refused] = await agent.responses("r")
        assert refused["error"]["code"] == "VOLUME_NOT_FOUND"
        made.volumes["shared"] = ""
        await agent.deployed("d1", config=external)
        assert "shared" in mounted(made)
        del made.volumes["shared"]
        await agent.send("scale", "s", service_id="web", replicas=2)
        await agent.done()
        assert await agent.outcome("s") == "VOLUME_NOT_FOUND"
        await agent.send("stop", "x", service_id="web", remove_container=True)
        await agent.done()
        [stopped] = await agent.responses("x")
        assert stopped["data"]["notes"] == ["these volumes stay: shared, shop_web_data_1"]
    assert deployment("d1", config=external).spec.volumes[0].external
