"""The watch: events wake those who wait and make memory honest; a stream that breaks forgets everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from syntra.runtime.docker import parsing
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.records import ContainerDetails
from syntra.runtime.docker.watch import ANNOUNCE_PAUSE_SECS, LIST_SECS, MEMORY_SECS, RECONNECT_MAX_SECS, ContainerWatch
from tests.agent.virtual_time import now
from tests.runtime.docker.fake_engine import FakeEngine, Peer, answer, fake_engine

pytestmark = pytest.mark.virtual_time

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def event(container: str, action: str = "die", managed: str = "true") -> bytes:
    actor = {"ID": container, "Attributes": {"syntra.managed": managed}}
    return json.dumps({"Type": "container", "Action": action, "Actor": actor}).encode() + b"\n"


def network_event(container: str, network: str = "syntra-shop", action: str = "connect") -> bytes:
    actor = {"ID": "n1", "Attributes": {"container": container, "name": network, "type": "bridge"}}
    return json.dumps({"Type": "network", "Action": action, "Actor": actor}).encode() + b"\n"


def details(container: str) -> ContainerDetails:
    return parsing.container_details({"Id": container, "Name": "/x", "State": {}, "Config": {}})


class Told:
    """How often a change was told, and when."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def announce(self) -> None:
        self.times.append(now())


@asynccontextmanager
async def watching(
    path: Path, script: Callable[[Peer], Awaitable[None]], told: Told | None = None
) -> AsyncIterator[tuple[ContainerWatch, FakeEngine]]:
    told = told or Told()
    async with (
        fake_engine(path, script) as engine,
        EngineClient(engine.endpoint) as client,
        asyncio.TaskGroup() as group,
    ):
        watch = ContainerWatch(client, clock=asyncio.get_running_loop().time)
        task = group.create_task(watch.run(told.announce), name="watch")
        await asyncio.sleep(0.5)
        yield watch, engine
        task.cancel()


class Stage:
    """An engine whose events are sent by the test; every connection begins with the events of `backlog`."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.end = asyncio.Event()
        self.backlog = b""

    async def script(self, peer: Peer) -> None:
        await peer.request()
        self.end.clear()
        await peer.send(HEAD + self.backlog)
        self.peers.append(peer)
        await self.end.wait()


async def test_an_event_is_told_and_drops_that_container_only(tmp_path: Path) -> None:
    stage, told = Stage(), Told()
    async with watching(tmp_path, stage.script, told) as (watch, _engine):
        for container in ("a", "b"):
            watch.remember(details(container), watch.token())
        await asyncio.sleep(1)
        told.times.clear()
        await stage.peers[0].send(event("a"))
        await asyncio.sleep(0.1)
        assert len(told.times) == 1
        assert watch.remembered("a") is None
        assert watch.remembered("b") == details("b")


@pytest.mark.parametrize("action", ["connect", "disconnect"])
async def test_a_container_that_changes_its_network_is_looked_at_again(tmp_path: Path, action: str) -> None:
    stage, told = Stage(), Told()
    async with watching(tmp_path, stage.script, told) as (watch, _engine):
        for container in ("a", "b"):
            watch.remember(details(container), watch.token())
        told.times.clear()
        await stage.peers[0].send(network_event("a", action=action))
        await asyncio.sleep(0.1)
        assert len(told.times) == 1
        assert watch.remembered("a") is None
        assert watch.remembered("b") == details("b")


async def test_what_is_not_ours_is_not_told(tmp_path: Path) -> None:
    stage, told = Stage(), Told()
    async with watching(tmp_path, stage.script, told) as (watch, _engine):
        watch.remember(details("a"), watch.token())
        told.times.clear()
        await stage.peers[0].send(event("other", managed="") + network_event("other", network="bridge"))
        await asyncio.sleep(0.1)
        assert told.times == []
        assert watch.remembered("a") is not None


async def test_an_inspection_that_an_event_overtook_is_not_kept(tmp_path: Path) -> None:
    stage = Stage()
    async with watching(tmp_path, stage.script) as (watch, _engine):
        token = watch.token()
        await stage.peers[0].send(event("a"))
        await asyncio.sleep(0.1)
        watch.remember(details("a"), token)
        assert watch.remembered("a") is None
        watch.remember(details("a"), watch.token())
        assert watch.remembered("a") is not None


async def test_what_happens_while_the_stream_is_being_opened_is_asked_for(tmp_path: Path) -> None:
    stage = Stage()
    async with watching(tmp_path, stage.script) as (_watch, engine):
        query = parse_qs(urlsplit(engine.requests[0].target).query)
        assert float(query["since"][0]) > 1.6e9
        filters = json.loads(query["filters"][0])
        assert {*filters["type"]} == {"container", "network"}
        assert "exec_start" not in str(filters)


async def test_memory_does_not_outlive_its_time_nor_its_container(tmp_path: Path) -> None:
    stage = Stage()
    async with watching(tmp_path, stage.script) as (watch, _engine):
        watch.remember(details("a"), watch.token())
        watch.remember(details("b"), watch.token())
        watch.keep_only(None)
        watch.keep_only({"a", "c"})
        assert watch.remembered("b") is None
        await asyncio.sleep(MEMORY_SECS - 1)
        assert watch.remembered("a") is not None
        await asyncio.sleep(2)
        assert watch.remembered("a") is None


async def test_a_broken_stream_forgets_everything_is_told_and_is_opened_again(tmp_path: Path) -> None:
    stage, told = Stage(), Told()
    async with watching(tmp_path, stage.script, told) as (watch, engine):
        watch.remember(details("a"), watch.token())
        told.times.clear()
        stage.end.set()
        await asyncio.sleep(0.1)
        assert len(told.times) == 1
        assert watch.remembered("a") is None
        watch.remember(details("a"), watch.token())
        assert watch.remembered("a") is None, "nobody would tell that it changed"
        await asyncio.sleep(1.5)
        assert engine.connections == 2
        assert len(told.times) == 2, "what happened in between is told by nobody else"
        watch.remember(details("a"), watch.token())
        assert watch.remembered("a") is not None


async def test_an_engine_that_stays_away_is_asked_less_and_less_often(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(500, {"message": "not now"}))

    async with watching(tmp_path, script) as (_watch, engine):
        begun = now()
        while engine.connections < 12:
            await asyncio.sleep(1)
        assert now() - begun > 6 * RECONNECT_MAX_SECS


async def test_the_pause_begins_anew_once_events_have_come(tmp_path: Path) -> None:
    stage = Stage()
    stage.backlog = event("a")
    async with watching(tmp_path, stage.script) as (_watch, engine):
        for number in range(1, 6):
            assert engine.connections == number
            stage.end.set()
            await asyncio.sleep(1.5)


async def test_a_burst_of_changes_is_told_at_once_and_once_more_at_its_end(tmp_path: Path) -> None:
    stage, told = Stage(), Told()
    async with watching(tmp_path, stage.script, told):
        await asyncio.sleep(1)
        told.times.clear()
        begun = now()
        for number in range(20):
            await stage.peers[0].send(event(f"c{number}"))
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        assert [round(at - begun, 2) for at in told.times] == [0.0, ANNOUNCE_PAUSE_SECS]


async def test_a_look_at_everything_holds_until_something_changes(tmp_path: Path) -> None:
    stage = Stage()
    async with watching(tmp_path, stage.script) as (watch, _):
        watch.remember_all([], watch.token())
        assert watch.remembered_all() == []
        watch.touched("c1")
        assert watch.remembered_all() is None, "what we did ourselves counts before its event comes"
        token = watch.token()
        await stage.peers[0].send(event("c1"))
        await asyncio.sleep(0.1)
        watch.remember_all([], token)
        assert watch.remembered_all() is None, "the look began before the event"
        watch.remember_all([], watch.token())
        await asyncio.sleep(LIST_SECS)
        assert watch.remembered_all() is None


async def test_containers_of_another_agent_wake_nobody(tmp_path: Path) -> None:
    stage = Stage()
    async with (
        fake_engine(tmp_path, stage.script) as engine,
        EngineClient(engine.endpoint) as client,
        asyncio.TaskGroup() as group,
    ):
        watch = ContainerWatch(client, owner="me", clock=asyncio.get_running_loop().time)
        task = group.create_task(watch.run(lambda: None), name="watch")
        await asyncio.sleep(0.5)
        token = watch.token()
        await stage.peers[0].send(event("c1"))
        await asyncio.sleep(0.5)
        assert watch.token() == token
        task.cancel()
