"""An API that answers badly: every fault is one typed error, and waiting outlasts what passes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

import pytest

from syntra.networking.api_client import ApiClient
from syntra.networking.errors import ProxyUnreachable
from syntra.networking.proxy import ProxyObserver
from syntra.networking.routes import RouteTable
from syntra.networking.traefik import GENERATION, GENERATION_HEADER, configuration, generation
from tests.networking.real_traefik import PLAIN, free_ports
from tests.networking.samples import endpoint, group, route

TABLE = RouteTable((route("a", "a.example", groups=(group(endpoint()),)),))
WANTED = configuration(TABLE, PLAIN)


def response(body: object, *, status: str = "200 OK") -> bytes:
    data = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


MARKER = response({"headers": {"customResponseHeaders": {GENERATION_HEADER: generation(WANTED)}}})
Answers = Callable[[str], bytes]


@contextlib.asynccontextmanager
async def api(answers: Answers, *, port: int = 0) -> AsyncIterator[str]:
    """A server on loopback that answers each path with these bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answers(head.split()[1].decode()))
            await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await closed(server)


async def closed(server: asyncio.Server) -> None:
    """Closed, and what its last connections still have to do is done."""
    server.close()
    await server.wait_closed()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "serve" in repr(task.get_coro()) or "silent" in repr(task.get_coro()):
            await asyncio.wait({task}, timeout=1)


def raw(**changes: object) -> dict[str, object]:
    tree = WANTED["http"]
    assert isinstance(tree, dict)
    found: dict[str, object] = {
        section: {f"{name}@file": {**entry, "status": "enabled"} for name, entry in tree[section].items()}
        for section in ("routers", "services", "middlewares")
    }
    return found | changes


def telling(rawdata: object) -> Answers:
    return lambda path: MARKER if GENERATION in path else response(rawdata)


async def test_what_the_proxy_has_is_applied() -> None:
    async with api(telling(raw())) as url:
        observer = ProxyObserver(url, PLAIN)
        assert await observer.applied(TABLE)
        assert await observer.wait_applied(TABLE, 5)
        assert await observer.problems(TABLE) == ()


async def test_another_generation_is_not_applied() -> None:
    old = response({"headers": {"customResponseHeaders": {GENERATION_HEADER: "0123"}}})
    for marker in (old, response({}, status="404 Not Found"), response([]), response({"headers": None})):
        async with api(lambda path, marker=marker: marker) as url:  # type: ignore[misc]  # bound at once
            observer = ProxyObserver(url, PLAIN)
            assert not await observer.applied(TABLE)
            assert not await observer.wait_applied(TABLE, 0.05)
            assert await observer.problems(TABLE) == ()


@pytest.mark.parametrize(
    ("rawdata", "said"),
    [
        (raw(services={}), "the proxy has no service syn-a@file"),
        (raw(routers={}), "the proxy has no router syn-a~a.example@file"),
        (
            raw(routers={"syn-a~a.example@file": {"rule": "Host(`b.example`)"}}),
            "is another; a second file may hold one",
        ),
        (
            raw(services={"syn-a@file": {}, "syn-a~d1@file": {"loadBalancer": {"servers": [{"url": "http://x:1"}]}}}),
            "the proxy's service syn-a~d1@file is another",
        ),
        (
            raw(routers={**dict(raw()["routers"]), "syn-b@file": {}, "syn-c@docker": {}}),  # type: ignore[call-overload]  # a mapping
            "the proxy still has router syn-b@file",
        ),
        (raw(routers=None), "the proxy has no router"),
        ({}, "the proxy has no router"),
    ],
)
async def test_the_right_generation_with_other_content_is_not_applied_and_said(rawdata: object, said: str) -> None:
    async with api(telling(rawdata)) as url:
        observer = ProxyObserver(url, PLAIN)
        assert not await observer.applied(TABLE)
        assert said in "\n".join(await observer.problems(TABLE))


FAULTS: dict[str, tuple[bytes, str]] = {
    "closed": (b"", "cut off"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9\r\n\r\n", "cut off or is not HTTP"),
    "cut body": (MARKER[:-5], "cut off"),
    "cut head": (MARKER[:20], "cut off"),
    "no JSON": (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope", "is not JSON"),
    "another status": (response({}, status="401 Unauthorized"), "it answered 401"),
    "a redirect": (response({}, status="302 Found"), "it answered 302"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_bad_answer_is_one_typed_error(fault: str) -> None:
    data, reason = FAULTS[fault]
    async with api(lambda path: data) as url:
        with pytest.raises(ProxyUnreachable, match=f"^cannot ask the proxy at {url}: .*{reason}.*; check") as caught:
            await ProxyObserver(url, PLAIN).applied(TABLE)
        assert caught.value.code == "PROXY_UNREACHABLE"


async def test_an_answer_that_is_cut_anywhere_is_an_error() -> None:
    for cut in range(len(MARKER)):
        async with api(lambda path, cut=cut: MARKER[:cut]) as url:  # type: ignore[misc]  # bound at once
            with pytest.raises(ProxyUnreachable):
                await ApiClient(url).get("/x")


async def test_no_proxy_is_a_typed_error_also_at_the_end_of_waiting() -> None:
    observer = ProxyObserver(f"http://127.0.0.1:{free_ports(1)[0]}", PLAIN)
    with pytest.raises(ProxyUnreachable, match="Connect"):
        await observer.applied(TABLE)
    with pytest.raises(ProxyUnreachable, match="Connect"):
        await observer.wait_applied(TABLE, 0.05)


async def test_a_proxy_that_says_nothing_is_given_up() -> None:
    held = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ProxyUnreachable, match=r"no answer within 0\.05 s"):
            await ApiClient(url, timeout=0.05).get("/x")
    finally:
        held.set()
        await closed(server)


async def test_a_proxy_that_comes_back_in_time_is_waited_for() -> None:
    port = free_ports(1)[0]
    observer = ProxyObserver(f"http://127.0.0.1:{port}", PLAIN)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(observer.wait_applied(TABLE, 10), name="waiting")
        await asyncio.sleep(0)
        assert not waiting.done()
        async with api(telling(raw()), port=port):
            assert await waiting


async def test_waiting_can_be_cancelled() -> None:
    asked = asyncio.Event()

    def answer(path: str) -> bytes:
        asked.set()
        return response({}, status="404 Not Found")

    async with api(answer) as url:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                async with asyncio.TaskGroup() as group:
                    group.create_task(ProxyObserver(url, PLAIN).wait_applied(TABLE, 60), name="waiting")
                    await asked.wait()
                    limit.reschedule(0)
