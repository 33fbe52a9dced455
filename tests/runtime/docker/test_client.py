"""The client against a scripted engine: versions, stale connections, deadlines, cancellation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import syntra
from syntra.runtime.docker.client import MAX_BODY_BYTES, EngineClient
from syntra.runtime.docker.errors import (
    Conflict,
    DockerError,
    EngineError,
    EngineProtocolError,
    EngineTimeout,
    EngineUnreachable,
    EngineUnsupported,
    NotFound,
    StreamBroken,
)
from tests.runtime.docker.fake_engine import Peer, answer, asked, fake_engine, replying

TOO_OLD = answer(400, {"message": "client version 1.41 is too old. Minimum supported API version is 1.44"})


async def serve(peer: Peer) -> None:
    """A well-behaved engine."""
    while True:
        request = await peer.request()
        await peer.send(answer(200, {"target": request.target, "connection": peer.number}))


async def test_calls_are_prefixed_quoted_and_named(tmp_path: Path) -> None:
    async with asked(tmp_path, serve) as (engine, client):
        response = await client.request("POST", "/a", query={"b": "c d"}, body={"e": 1})
        assert response.json() == {"target": "/v1.41/a?b=c+d", "connection": 1}
        assert client.api_version == (1, 41)
        request = engine.requests[0]
        assert json.loads(request.body) == {"e": 1}
        assert request.headers["host"] == "docker"
        assert request.headers["user-agent"] == f"syntra-agent/{syntra.__version__}"
        assert request.headers["content-type"] == "application/json"
        await client.request("PUT", "/tar", body=b"raw", headers={"Content-Type": "application/x-tar"})
        assert engine.requests[1].body == b"raw"
        assert engine.requests[1].headers["content-type"] == "application/x-tar"


async def test_short_calls_share_one_connection_and_one_negotiation(tmp_path: Path) -> None:
    async with asked(tmp_path, serve) as (engine, client):
        for _ in range(3):
            await client.request("GET", "/a")
        assert (engine.connections, engine.pings) == (1, 1)


async def test_concurrent_calls_keep_no_more_idle_connections_than_the_pool_holds(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, serve) as engine, EngineClient(engine.endpoint, pool_size=2) as client:
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(client.request("GET", "/a"), name=f"call {number}")
        assert len(engine.requests) == 6
        assert len(client._pool) <= 2


async def test_the_version_is_unknown_before_the_first_call(tmp_path: Path) -> None:
    async with asked(tmp_path, serve) as (engine, client):
        with pytest.raises(DockerError, match="API version"):
            _ = client.api_version
        with pytest.raises(DockerError, match="API version"):
            _ = client.engine_api_version
        engine.ping = engine.ping.replace(b"1.41", b"1.99")
        assert await client.negotiate() == (1, 52)
        assert client.engine_api_version == (1, 99)


async def test_an_engine_that_is_too_old_is_refused_in_words(tmp_path: Path) -> None:
    async with asked(tmp_path, serve) as (engine, client):
        engine.ping = engine.ping.replace(b"1.41", b"1.40")
        with pytest.raises(EngineUnsupported, match=r"1\.40 is older than 1\.41; upgrade"):
            await client.request("GET", "/a")
        assert engine.requests == []


@pytest.mark.parametrize("ping", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", answer(404)])
async def test_something_that_is_no_engine_is_told(tmp_path: Path, ping: bytes) -> None:
    async with asked(tmp_path, serve) as (engine, client):
        engine.ping = ping
        with pytest.raises(EngineProtocolError, match="without an API version"):
            await client.request("GET", "/a")


async def test_a_refused_version_is_negotiated_again_even_for_posts(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.target.startswith("/v1.41/") and len(peer_engine.requests) > 1:
                peer_engine.ping = peer_engine.ping.replace(b"1.41", b"1.50")
                await peer.send(TOO_OLD)
            else:
                await peer.send(answer(200, {}))

    async with asked(tmp_path, script) as (peer_engine, client):
        await client.request("GET", "/a")
        await client.request("POST", "/b")  # the engine was replaced by a newer one
        assert client.api_version == (1, 50)
        assert [request.target for request in peer_engine.requests] == ["/v1.41/a", "/v1.41/b", "/v1.50/b"]


async def test_a_version_that_stays_refused_ends_in_an_error(tmp_path: Path) -> None:
    async with asked(tmp_path, replying(TOO_OLD, always=True)) as (engine, client):
        with pytest.raises(EngineUnsupported, match=r"Minimum supported API version is 1\.44"):
            await client.request("GET", "/a")
        assert len(engine.requests) == 2


def stale_after_first_answer(served: asyncio.Event) -> Callable[[Peer], Awaitable[None]]:
    """The first connection takes a second request but closes without a byte of an answer."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, {"connection": peer.number}))
        if peer.number == 1:
            await peer.request()
            served.set()
        else:
            await serve(peer)

    return script


async def test_a_read_on_a_stale_connection_is_repeated_on_a_fresh_one(tmp_path: Path) -> None:
    script = stale_after_first_answer(asyncio.Event())
    async with asked(tmp_path, script) as (engine, client):
        await client.request("GET", "/a")
        response = await client.request("GET", "/a")
        assert response.json() == {"connection": 2}
        assert engine.pings == 2, "the engine may be another one now"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_change_on_a_stale_connection_is_not_repeated(tmp_path: Path, method: str) -> None:
    script = stale_after_first_answer(asyncio.Event())
    async with asked(tmp_path, script) as (engine, client):
        await client.request("GET", "/a")
        with pytest.raises(EngineUnreachable) as caught:
            await client.request(method, "/a")
        assert caught.value.sent, "the caller must find out whether it was carried out"
        assert len(engine.requests) == 2


async def test_a_change_avoids_a_connection_that_is_seen_to_be_closed(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, {"connection": peer.number}))

    async with asked(tmp_path, script) as (engine, client):
        for number in (1, 2, 3):
            engine.script_ended.clear()
            assert (await client.request("POST", "/a")).json() == {"connection": number}
            await engine.script_end()
        assert engine.pings == 3


async def test_a_drop_on_a_fresh_connection_is_not_repeated(tmp_path: Path) -> None:
    async with asked(tmp_path, replying()) as (engine, client):
        with pytest.raises(EngineUnreachable, match="closed before a response"):
            await client.request("GET", "/a")
        assert len(engine.requests) == 1


async def test_a_drop_before_the_request_was_sent_says_so(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")

    async with asked(tmp_path, script) as (_, client):
        with pytest.raises(EngineUnreachable) as caught:
            await client.request("POST", "/a")
        assert not caught.value.sent


async def test_something_in_between_that_closes_after_every_answer_is_coped_with(tmp_path: Path) -> None:
    async with asked(tmp_path, replying(answer(200, {}, headers="Connection: close\r\n"))) as (engine, client):
        engine.ping = engine.ping.replace(b"Content-Length", b"Connection: close\r\nContent-Length")
        await client.request("POST", "/a")
        await client.request("POST", "/a")
        assert engine.pings == 1


@pytest.mark.parametrize(
    ("raw", "kind", "message"),
    [
        (answer(404, {"message": "no such thing"}), NotFound, "no such thing"),
        (answer(409, {"message": "busy"}), Conflict, "busy"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops", EngineError, "oops"),
        (answer(301, headers="Location: /elsewhere\r\n"), EngineError, "/elsewhere"),
        (answer(500, ["not", "an", "object"]), EngineError, "not"),
    ],
)
async def test_error_statuses_are_errors_and_keep_the_connection(
    tmp_path: Path, raw: bytes, kind: type[EngineError], message: str
) -> None:
    async with asked(tmp_path, replying(raw, always=True)) as (engine, client):
        for _ in range(2):
            with pytest.raises(kind, match=message) as caught:
                await client.request("GET", "/a")
            assert (caught.value.method, caught.value.path) == ("GET", "/a")
        assert engine.connections == 1


async def test_not_modified_is_an_answer(tmp_path: Path) -> None:
    async with asked(tmp_path, replying(b"HTTP/1.1 304 Not Modified\r\n\r\n")) as (_, client):
        assert (await client.request("POST", "/a")).status == 304


async def test_a_body_that_is_no_json_or_too_long_is_a_protocol_error(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.target.endswith("/long"):
                await peer.send(f"HTTP/1.1 200 X\r\nContent-Length: {2 * MAX_BODY_BYTES}\r\n\r\n".encode())
                while True:
                    await peer.send(b"x" * 1024 * 1024)
            await peer.send(b"HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\noops")

    async with asked(tmp_path, script) as (_, client):
        with pytest.raises(EngineProtocolError, match="not JSON"):
            (await client.request("GET", "/a")).json()
        with pytest.raises(EngineProtocolError, match="longer than"):
            await client.request("GET", "/long")


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.closed()


async def test_a_deadline_closes_the_connection(tmp_path: Path) -> None:
    async with asked(tmp_path, silent) as (engine, client):
        with pytest.raises(EngineTimeout, match=r"cannot GET /a: no answer from the engine within 0\.05 s"):
            await client.request("GET", "/a", deadline=0.05)
        await engine.script_end()
        assert len(client._pool) == 0


async def test_cancelling_a_call_closes_its_connection(tmp_path: Path) -> None:
    async with asked(tmp_path, silent) as (engine, client):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(client.request("GET", "/a"), name="call")
            while not engine.requests:
                await asyncio.sleep(0)
            task.cancel()
        assert task.cancelled()
        await engine.script_end()


async def test_a_stream_yields_its_body_and_raises_when_it_drops(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        if peer.number == 1:
            await peer.send(b"0\r\n\r\n")

    async with asked(tmp_path, script) as (_, client):
        async with client.stream("GET", "/a", idle_deadline=5) as stream:
            assert (stream.status, stream.headers["transfer-encoding"]) == (200, "chunked")
            assert b"".join([chunk async for chunk in stream]) == b"abc"
        assert len(client._pool) == 0, "streams are not pooled"
        with pytest.raises(StreamBroken, match="cannot finish reading GET /a"):
            async with client.stream("GET", "/a", idle_deadline=5) as stream:
                async for chunk in stream:
                    assert chunk == b"abc"


async def test_leaving_a_stream_early_closes_its_connection(tmp_path: Path) -> None:
    async with (
        fake_engine(
            tmp_path, replying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", stay=True)
        ) as engine,
        EngineClient(engine.endpoint) as client,
    ):
        async with client.stream("GET", "/a") as stream:
            assert await anext(stream) == b"abc"
        await engine.script_end()


async def test_a_stream_that_is_not_read_holds_the_engine_back(tmp_path: Path) -> None:
    sent = 0
    blocked = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            try:
                async with asyncio.timeout(0.1):
                    await peer.send(b"x" * 65536)
            except TimeoutError:
                blocked.set()
                return
            sent += 65536

    async with asked(tmp_path, script) as (_, client):
        async with client.stream("GET", "/a"), asyncio.timeout(5):
            await blocked.wait()
        assert sent < 2 * 1024 * 1024


async def test_a_stream_has_a_deadline_for_its_head_and_one_for_each_read(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.target.endswith("/b"):
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await peer.closed()

    async with asked(tmp_path, script) as (_, client):
        with pytest.raises(EngineTimeout):
            async with client.stream("GET", "/a", connect_deadline=0.02):
                raise AssertionError("there is no head")
        with pytest.raises(EngineTimeout):
            async with client.stream("GET", "/b", idle_deadline=0.02) as stream:
                await anext(stream)


async def test_an_error_status_of_a_stream_is_an_error(tmp_path: Path) -> None:
    async with asked(tmp_path, replying(answer(404, {"message": "no such container"}))) as (_, client):
        with pytest.raises(NotFound):
            async with client.stream("GET", "/a"):
                raise AssertionError("there is no stream")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n",
    ],
)
async def test_a_hijacked_connection_is_a_two_way_stream(tmp_path: Path, head: bytes) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        assert request.headers["upgrade"] == "tcp"
        await peer.send(head)
        await peer.send((await peer.reader.read(100)).upper())

    async with (
        fake_engine(tmp_path, script) as engine,
        EngineClient(engine.endpoint) as client,
        client.hijack("POST", "/exec/x/start", body={"Tty": False}) as stream,
    ):
        await stream.write(b"hello")
        assert await stream.read(5) == b"HELLO"
        assert await stream.read(5) == b""
        stream.write_eof()


async def test_no_engine_is_unreachable_and_found_again_later(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, serve) as engine:
        client = EngineClient(engine.endpoint)
        await client.request("GET", "/a")
    (tmp_path / "engine.sock").unlink(missing_ok=True)
    with pytest.raises(EngineUnreachable):
        await client.request("GET", "/a")
    async with fake_engine(tmp_path, serve) as engine, client:
        engine.ping = engine.ping.replace(b"1.41", b"1.43")
        await client.request("GET", "/a")
        assert client.api_version == (1, 43)
