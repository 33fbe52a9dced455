"""Networks on a real engine, and a lost race on a scripted one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import DockerError, EngineError
from syntra.runtime.docker.networks import CREATE_TIMES, Networks
from tests.runtime.docker.fake_engine import Peer, answer, asked
from tests.runtime.docker.scratch import container, fresh_name


@asynccontextmanager
async def scratch_networks(endpoint: Endpoint) -> AsyncIterator[tuple[Networks, str]]:
    async with EngineClient(endpoint) as client:
        networks, name = Networks(client), fresh_name()
        try:
            yield networks, name
        finally:
            for network in await networks.list(labels={"syntra.test": name}):
                await networks.remove(network.id)


async def test_concurrent_callers_end_up_with_one_network(endpoint: Endpoint) -> None:
    async with scratch_networks(endpoint) as (networks, name):
        assert await networks.inspect(name) is None
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(networks.ensure(name, {"syntra.test": name}), name=f"ensure {number}")
                for number in range(4)
            ]
        made = {task.result().id for task in tasks}
        assert len(made) == 1
        assert len(await networks.list(labels={"syntra.test": name})) == 1
        found = await networks.inspect(name)
        assert found is not None
        assert (found.id, found.name, found.driver) == (made.pop(), name, "bridge")
        assert found.gateway.rsplit(".", 1)[0] == found.subnet.rsplit(".", 1)[0]
        assert found.labels == {"syntra.test": name}
        assert await networks.inspect(found.id) == found
        assert await networks.inspect(found.id[:12]) is None, "beginnings of ids are not names"
        assert await networks.inspect(name[:-1]) is None
        assert await networks.remove(name)
        assert await networks.remove(name)


async def test_a_running_container_is_attached_and_detached(endpoint: Endpoint, image: str) -> None:
    async with (
        scratch_networks(endpoint) as (networks, name),
        container(endpoint, image, ["sleep", "1000"], HostConfig={"NetworkMode": "bridge"}) as made,
    ):
        network = await networks.ensure(name, {"syntra.test": name})
        assert not await networks.disconnect(network.id, made.id)
        assert await networks.connect(network.id, made.id, aliases=["web"])
        assert not await networks.connect(network.id, made.id)
        address = (await made.containers.inspect(made.id)).addresses[name]
        found = await networks.inspect(name)
        assert found is not None
        assert found.containers == {made.id: address}
        assert not await networks.remove(network.id), "a container is attached"
        assert await networks.disconnect(network.id, made.id)
        assert not await networks.disconnect(network.id, "syntra-test-absent")
        assert name not in (await made.containers.inspect(made.id)).addresses


def row(id_: str, created: str) -> dict[str, object]:
    return {"Id": id_, "Name": "net", "Created": created}


async def test_the_loser_of_a_race_gives_way_to_the_older_network(tmp_path: Path) -> None:
    removed: list[str] = []
    created = False

    async def script(peer: Peer) -> None:
        nonlocal created
        while True:
            request = await peer.request()
            target = request.target.removeprefix("/v1.41").partition("?")[0]
            if request.method == "DELETE":
                removed.append(target)
                await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif request.method == "POST":
                assert b'"CheckDuplicate":true' in request.body
                created = True
                await peer.send(answer(201, {"Id": "mine"}))
            elif target == "/networks":
                rows = [row("mine", "2024-05-01T12:00:02Z"), row("theirs", "2024-05-01T12:00:01Z")]
                await peer.send(answer(200, rows if created else []))
            elif target == "/networks/theirs":
                await peer.send(answer(200, row("theirs", "2024-05-01T12:00:01Z")))
            else:
                await peer.send(answer(404, {"message": "no such network"}))

    async with asked(tmp_path, script) as (_, client):
        assert (await Networks(client).ensure("net", {})).id == "theirs"
        assert removed == ["/networks/mine"]


async def test_a_network_that_vanishes_while_being_made_is_an_error(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.method == "POST":
                await peer.send(answer(409, {"message": "network with name net already exists"}))
            elif "?" in request.target:
                await peer.send(answer(200, []))
            else:
                await peer.send(answer(404, {"message": "no such network"}))

    async with asked(tmp_path, script) as (_, client):
        with pytest.raises(DockerError, match="removed at the same time"):
            await Networks(client).ensure("net", {})


GONE = "route ip+net: no such network interface"


@pytest.mark.parametrize(
    ("refusals", "message", "works"),
    [
        (1, GONE, True),
        (CREATE_TIMES - 1, GONE, True),
        (CREATE_TIMES, GONE, False),
        (1, "no space left on device", False),
    ],
)
async def test_a_list_of_interfaces_that_changed_meanwhile_is_read_again(
    tmp_path: Path, refusals: int, message: str, works: bool
) -> None:
    asked_for = 0

    async def script(peer: Peer) -> None:
        nonlocal asked_for
        while True:
            request = await peer.request()
            if request.target.endswith("/networks/create"):
                asked_for += 1
                refused = asked_for <= refusals
                await peer.send(answer(500, {"message": message}) if refused else answer(201, {"Id": "new"}))
            elif request.method == "GET" and "/networks" in request.target:
                made = [{"Id": "new", "Name": "net", "Created": "2026-11-30T00:00:00Z"}] if asked_for > refusals else []
                await peer.send(answer(200, made))
            else:
                await peer.send(answer(200, {}))

    async with asked(tmp_path, script) as (_, client):
        if works:
            assert (await Networks(client).ensure("net", {})).id == "new"
            assert asked_for == refusals + 1
        else:
            with pytest.raises(EngineError, match=message.replace("+", ".")):
                await Networks(client).ensure("net", {})
            assert asked_for == (CREATE_TIMES if message == GONE else 1)
