"""Events of a real engine, and the end of a stream that has no end."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import EngineProtocolError, StreamBroken
from syntra.runtime.docker.events import Events
from tests.runtime.docker.fake_engine import asked, replying
from tests.runtime.docker.scratch import container


async def test_events_of_a_container_arrive_in_order_and_can_be_asked_for_again(endpoint: Endpoint, image: str) -> None:
    before = time.time_ns() - 1_000_000
    async with container(endpoint, image, ["sh", "-c", "exit 3"]) as made:
        await made.containers.wait(made.id, deadline=20)
        filters = {"container": [made.id], "event": ["create", "start", "die"]}
        async with aclosing(Events(made.client).stream(before, filters)) as events, asyncio.timeout(20):
            seen = [await anext(events) for _ in range(3)]
        assert [event.action for event in seen] == ["create", "start", "die"]
        assert {event.id for event in seen} == {made.id}
        assert {event.type for event in seen} == {"container"}
        assert seen[-1].attributes["exitCode"] == "3"
        assert seen[0].time_nano < seen[-1].time_nano
        async with aclosing(Events(made.client).stream(seen[1].time_nano, filters)) as events, asyncio.timeout(20):
            assert (await anext(events)) == seen[1], "since is inclusive"
            assert (await anext(events)) == seen[2]


@pytest.mark.parametrize(
    ("body", "kind"), [(b'{"Type":"container","Action":"die"}\n', StreamBroken), (b"{}x", EngineProtocolError)]
)
async def test_the_end_of_the_stream_is_an_error(tmp_path: Path, body: bytes, kind: type[Exception]) -> None:
    async with asked(tmp_path, replying(b"HTTP/1.1 200 OK\r\n\r\n" + body)) as (engine, client):
        with pytest.raises(kind):
            async with aclosing(Events(client).stream(1_500_000_000)) as events:
                async for event in events:
                    assert event.type in ("container", "")
        assert "since=1.500000000" in engine.requests[0].target
