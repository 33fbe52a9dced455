"""The proxy's containers on a real engine: found by owner, named beside others, never taken from them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from syntra.model.image import make_image, split_image
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import find_endpoint
from syntra.runtime.docker.proxy_body import WantedProxy
from syntra.runtime.docker.proxy_containers import ProxyContainers
from syntra.runtime.errors import StepFailed
from tests.engine import api, busybox_image, cleanup, new_token, require_engine, start_container

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Ground:
    """One name that two agents want, an image, and the token of it all."""

    token: str
    image: str

    @property
    def name(self) -> str:
        return f"proxy-{self.token}"

    def wanted(self, owner: str, *arguments: str) -> WantedProxy:
        image = make_image(str, split_image(self.image))
        return WantedProxy(owner=owner, image=image, arguments=arguments or ("/bin/service",), binds=())


@pytest.fixture
def ground() -> Iterator[Ground]:
    require_engine()
    token = new_token()
    busybox_image(f"{token}:v1", changes=["ENTRYPOINT []"])
    try:
        yield Ground(token, f"{token}:v1")
    finally:
        cleanup(token)


def owner() -> str:
    return secrets.token_hex(6)


async def test_each_agent_finds_its_own_under_a_name_of_its_own(ground: Ground) -> None:
    async with EngineClient(find_endpoint(os.environ)) as client:
        first, second = (ProxyContainers(client, owner=owner(), name=ground.name) for _ in range(2))
        ids = [await containers.create(ground.wanted(containers.owner)) for containers in (first, second)]
        for containers, container, name in ((first, ids[0], ground.name), (second, ids[1], None)):
            [found] = await containers.found()
            assert (found.id, found.name) == (container, name or f"{ground.name}-{second.owner}")


async def test_an_older_one_makes_room_and_can_have_its_name_back(ground: Ground) -> None:
    async with EngineClient(find_endpoint(os.environ)) as client:
        containers = ProxyContainers(client, owner=owner(), name=ground.name)
        old = await containers.create(ground.wanted(containers.owner))
        new = await containers.create(ground.wanted(containers.owner, "/bin/service", "x"))
        older, newer = await containers.found()
        assert (older.id, newer.id, newer.name) == (old, new, ground.name)
        assert older.name.startswith(f"{ground.name}-before-")
        await containers.remove(new)
        await containers.remove(new)
        await containers.rename(old, ground.name)
        await containers.rename(old, ground.name)
        [found] = await containers.found()
        assert (found.id, found.name) == (old, ground.name)


async def test_a_name_that_somebody_else_has_is_said_and_left_alone(ground: Ground) -> None:
    theirs = start_container(ground.token, ground.image, name=ground.name)
    async with EngineClient(find_endpoint(os.environ)) as client:
        containers = ProxyContainers(client, owner=owner(), name=ground.name)
        with pytest.raises(
            StepFailed, match=f"a container of {ground.image} that this agent did not create has that name"
        ) as caught:
            await containers.create(ground.wanted(containers.owner))
        assert caught.value.code == "PROXY_FAILED"
        assert await containers.found() == []
    assert api("GET", f"/containers/{theirs}/json")["Name"] == f"/{ground.name}"


async def test_started_stopped_and_asked_for_its_last_words(ground: Ground) -> None:
    async with EngineClient(find_endpoint(os.environ)) as client:
        containers = ProxyContainers(client, owner=owner(), name=ground.name)
        wanted = ground.wanted(containers.owner, "/bin/sh", "-c", "echo first; echo last; sleep 60 & wait")
        container = await containers.create(wanted)
        assert await containers.last_line(container) == ""
        await containers.start(container)
        await containers.start(container)
        there = await containers.inspect(container)
        assert there is not None and there.state.running
        await containers.remove(container)
        assert await containers.inspect(container) is None
        await containers.stop(container)
        with pytest.raises(StepFailed):
            await containers.start(container)


async def test_a_stopped_one_stays_down(ground: Ground) -> None:
    async with EngineClient(find_endpoint(os.environ)) as client:
        containers = ProxyContainers(client, owner=owner(), name=ground.name)
        container = await containers.create(ground.wanted(containers.owner))
        await containers.start(container)
        await containers.stop(container)
        await containers.stop(container)
        there = await containers.inspect(container)
        assert there is not None
        assert (there.state.running, there.restart_policy) == (False, "no")


async def test_images_are_looked_for_and_published_ports_found(ground: Ground) -> None:
    name = f"published-{ground.token}"
    bindings = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    start_container(ground.token, ground.image, name=name, host={"PortBindings": bindings})
    published = api("GET", f"/containers/{name}/json")["NetworkSettings"]["Ports"]["8080/tcp"]
    port = int(published[0]["HostPort"])
    async with EngineClient(find_endpoint(os.environ)) as client:
        containers = ProxyContainers(client, owner=owner(), name=ground.name)
        for host, holder in (("", name), ("0.0.0.0", name), ("127.0.0.1", name), ("127.0.0.2", None)):
            assert await containers.publisher_of(host, port) == holder
        assert await containers.publisher_of("", 1) is None
        assert await containers.has_image(make_image(str, split_image(ground.image)))
        assert not await containers.has_image(make_image(str, split_image(f"{ground.token}:v2")))


async def test_a_copy_that_somebody_made_of_the_proxy_is_left_alone(ground: Ground) -> None:
    async with EngineClient(find_endpoint(os.environ)) as client:
        containers = ProxyContainers(client, owner=owner(), name=ground.name)
        made = await containers.create(ground.wanted(containers.owner))
        repository = f"{ground.token}-copy"
        api("POST", "/commit", query={"container": made, "repo": repository, "tag": "mine"})
        await containers.remove(made)
        copy = start_container(ground.token, f"{repository}:mine", name=ground.name)
        assert await containers.found() == []
        with pytest.raises(StepFailed, match="did not create"):
            await containers.create(ground.wanted(containers.owner))
        assert api("GET", f"/containers/{copy}/json")["Name"] == f"/{ground.name}"
