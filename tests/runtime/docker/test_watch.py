"""The watch: events wake those who wait and make memory honest; a stream that breaks forgets everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from syntra.runtime.docker import parsing
from syntra.runtime.docker.records import ContainerDetails
from syntra.runtime.docker.watch import ANNOUNCE_PAUSE_SECS, LIST_SECS, MEMORY_SECS, RECONNECT_MAX_SECS, ContainerWatch
from tests.agent.virtual_time import now
from tests.on_loop import OnLoop
from tests.runtime.docker.fake_engine import FakeEngine, Peer, Script, answer, asked, replying

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


class Stage:
    """An engine whose events are sent by the test; every connection begins with the events of `backlog`."""

    def __init__(self, backlog: bytes) -> None:
        self.peers: list[Peer] = []
        self.end = asyncio.Event()
        self.backlog = backlog

    async def script(self, peer: Peer) -> None:
        await peer.request()
        self.end.clear()
        await peer.send(HEAD + self.backlog)
        self.peers.append(peer)
        await self.end.wait()


@dataclass(frozen=True)
class Watched:
    """A watch that follows the events of such an engine."""

    watch: ContainerWatch
    engine: FakeEngine
    stage: Stage
    told: Told

    def remember(self, *containers: str) -> None:
        """Inspect these now; what was told before is forgotten."""
        for container in containers:
            self.watch.remember(details(container), self.watch.token())
        self.told.times.clear()

    async def send(self, events: bytes) -> None:
        await self.stage.peers[0].send(events)
        await asyncio.sleep(0.1)


@asynccontextmanager
async def watching(
    path: Path, script: Script | None = None, *, owner: str | None = None, backlog: bytes = b""
) -> AsyncIterator[Watched]:
    stage, told = Stage(backlog), Told()
    async with asked(path, script or stage.script) as (engine, client), asyncio.TaskGroup() as group:
        watch = ContainerWatch(client, owner=owner, clock=asyncio.get_running_loop().time)
        task = group.create_task(watch.run(told.announce), name="watch")
        await asyncio.sleep(0.5)
        yield Watched(watch, engine, stage, told)
        task.cancel()


@pytest.fixture
def watched(tmp_path: Path) -> OnLoop[Watched]:
    return OnLoop(watching(tmp_path))


@pytest.mark.parametrize(
    "happens", [event("a"), *(network_event("a", action=action) for action in ("connect", "disconnect"))]
)
async def test_an_event_of_a_container_or_its_network_is_told_and_drops_that_container_only(
    watched: Watched, happens: bytes
) -> None:
    watched.remember("a", "b")
    await asyncio.sleep(1)
    watched.told.times.clear()
    await watched.send(happens)
    assert len(watched.told.times) == 1
    assert watched.watch.remembered("a") is None
    assert watched.watch.remembered("b") == details("b")


async def test_what_is_not_ours_is_not_told(watched: Watched) -> None:
    watched.remember("a")
    await watched.send(event("other", managed="") + network_event("other", network="bridge"))
    assert watched.told.times == []
    assert watched.watch.remembered("a") is not None


async def test_an_inspection_that_an_event_overtook_is_not_kept(watched: Watched) -> None:
    token = watched.watch.token()
    await watched.send(event("a"))
    watched.watch.remember(details("a"), token)
    assert watched.watch.remembered("a") is None
    watched.remember("a")
    assert watched.watch.remembered("a") is not None


async def test_what_happens_while_the_stream_is_being_opened_is_asked_for(watched: Watched) -> None:
    query = parse_qs(urlsplit(watched.engine.requests[0].target).query)
    assert float(query["since"][0]) > 1.6e9
    filters = json.loads(query["filters"][0])
    assert {*filters["type"]} == {"container", "network"}
    assert "exec_start" not in str(filters)


async def test_memory_does_not_outlive_its_time_nor_its_container(watched: Watched) -> None:
    watched.remember("a", "b")
    watched.watch.keep_only({"a", "c"})
    assert watched.watch.remembered("b") is None
    await asyncio.sleep(MEMORY_SECS - 1)
    assert watched.watch.remembered("a") is not None
    await asyncio.sleep(2)
    assert watched.watch.remembered("a") is None


async def test_a_broken_stream_forgets_everything_is_told_and_is_opened_again(watched: Watched) -> None:
    watched.remember("a")
    watched.stage.end.set()
    await asyncio.sleep(0.1)
    assert len(watched.told.times) == 1
    assert watched.watch.remembered("a") is None
    watched.watch.remember(details("a"), watched.watch.token())
    assert watched.watch.remembered("a") is None, "nobody would tell that it changed"
    await asyncio.sleep(1.5)
    assert len(watched.stage.peers) == 2
    assert len(watched.told.times) == 2, "what happened in between is told by nobody else"
    watched.remember("a")
    assert watched.watch.remembered("a") is not None


async def test_an_engine_that_stays_away_is_asked_less_and_less_often(tmp_path: Path) -> None:
    async with watching(tmp_path, replying(answer(500, {"message": "not now"}))) as watched:
        begun = now()
        while watched.engine.connections < 12:
            await asyncio.sleep(1)
        assert now() - begun > 6 * RECONNECT_MAX_SECS


async def test_the_pause_begins_anew_once_events_have_come(tmp_path: Path) -> None:
    async with watching(tmp_path, backlog=event("a")) as watched:
        for number in range(1, 6):
            assert len(watched.stage.peers) == number
            watched.stage.end.set()
            await asyncio.sleep(1.5)


async def test_a_burst_of_changes_is_told_at_once_and_once_more_at_its_end(watched: Watched) -> None:
    await asyncio.sleep(1)
    watched.told.times.clear()
    begun = now()
    for number in range(20):
        await watched.stage.peers[0].send(event(f"c{number}"))
        await asyncio.sleep(0.001)
    await asyncio.sleep(1)
    assert [round(at - begun, 2) for at in watched.told.times] == [0.0, ANNOUNCE_PAUSE_SECS]


async def test_a_look_at_everything_holds_until_something_changes(watched: Watched) -> None:
    watch = watched.watch
    watch.remember_all([], watch.token())
    assert watch.remembered_all() == []
    watch.touched("c1")
    assert watch.remembered_all() is None, "what we did ourselves counts before its event comes"
    token = watch.token()
    await watched.send(event("c1"))
    watch.remember_all([], token)
    assert watch.remembered_all() is None, "the look began before the event"
    watch.remember_all([], watch.token())
    await asyncio.sleep(LIST_SECS)
    assert watch.remembered_all() is None


async def test_containers_of_another_agent_wake_nobody(tmp_path: Path) -> None:
    async with watching(tmp_path, owner="me") as watched:
        token = watched.watch.token()
        await watched.send(event("c1"))
        await asyncio.sleep(0.4)
        assert watched.watch.token() == token
