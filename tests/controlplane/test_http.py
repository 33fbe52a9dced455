"""HTTP/1.1 as clients get it wrong: sizes, slowness, fragments, and connections cut anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syntra.controlplane.settings import Limits, Timings
from tests.controlplane.harness import PATIENCE, Plane, json_body, running

SMALL = Limits(body_bytes=1000)


async def test_a_declared_oversized_body_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path, limits=SMALL) as plane:
        request = plane.request("POST", "/api/v1/tokens", b"x" * 1001)
        answer = await plane.raw(request[: -len(b"x" * 1001)])
        assert answer.startswith(b"HTTP/1.1 413")
        assert json_body(answer)["error"]["code"] == "BODY_TOO_LARGE"


async def test_a_client_that_sends_its_oversized_body_first_still_gets_the_refusal(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        body = b"x" * (plane.settings.limits.body_bytes + 1)
        assert (await plane.raw(plane.request("POST", "/api/v1/tokens", body))).startswith(b"HTTP/1.1 413")


async def test_a_chunked_body_is_read_and_bounded(tmp_path: Path) -> None:
    async with running(tmp_path, limits=SMALL) as plane:
        head = (
            f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {plane.operator_token}\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        ).encode()
        answer = await plane.raw(head + b'7\r\n{"name"\r\n5\r\n:"a"}\r\n0\r\n\r\n')
        assert answer.startswith(b"HTTP/1.1 201")
        answer = await plane.raw(head + b"200\r\n" + b"x" * 512 + b"\r\n200\r\n" + b"x" * 512 + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 413")


async def test_a_client_that_asks_before_sending_its_body_is_told_to_go_on(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        request = plane.request("POST", "/api/v1/tokens", b"{}", headers="Expect: 100-continue\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
        writer.write(request[:-2])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"{}")
        assert (await reader.read()).startswith(b"HTTP/1.1 201")
        writer.close()


async def test_one_connection_serves_several_requests_also_pipelined(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        kept = plane.request("GET", "/api/v1/servers", close=False)
        missing = plane.request("GET", "/api/v1/servers/none", close=False)
        answer = await plane.raw(kept + missing + plane.request("GET", "/healthz"))
        assert answer.count(b"HTTP/1.1 200") == 2
        assert answer.count(b"HTTP/1.1 404") == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 413),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 413),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", 431),
        (b"GET /agent/ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"GET /agent/ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
        (b"POST /agent/ws HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 413),
        (b"DELETE /agent/ws HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
)
async def test_malformed_requests_get_their_status_and_the_connections_end(
    tmp_path: Path, request_bytes: bytes, status: int
) -> None:
    async with running(tmp_path) as plane:
        assert (await plane.raw(request_bytes)).startswith(f"HTTP/1.1 {status}".encode())
        assert await plane.call(plane.client.healthy)


POST = b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        # Two ways to find the end of the body.
        (POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400),
        (POST + b"content-LENGTH: 0\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2, 2\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2, 3\r\n\r\n{}", 400),
        # Lengths that parsers read differently.
        (POST + b"Content-Length: +2\r\n\r\n{}", 400),
        (POST + b"Content-Length: 0x2\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2_0\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2 0\r\n\r\n{}", 400),
        (POST + b"Content-Length: 2;\r\n\r\n{}", 400),
        (POST + b"Content-Length: \xb2\r\n\r\n{}", 400),
        (POST + b"Content-Length:\r\n\r\n{}", 400),
        (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}", 400),
        (POST + b"Content-Length : 2\r\n\r\n{}", 400),
        (POST + b" Content-Length: 2\r\n\r\n{}", 400),
        # Continued lines, and line ends that not all take for one.
        (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length:\r\n\t2\r\n\r\n{}", 400),
        (POST + b"X: a\r\n Content-Length: 2\r\n\r\n{}", 400),
        (b"GET /healthz HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\nContent-Length: 2\r\n\r\n{}", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\rContent-Length: 2\r\n\r\n{}", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        # Encodings.
        (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}", 501),
        (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n", 501),
        # Versions.
        (b"POST /api/v1/tokens HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /healthz\r\n\r\n", 400),
        # An upgrade with a body, whose bytes would be taken for frames.
        (b"GET /agent/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}", 413),
        (b"GET /agent/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400),
        (b"GET /agent/ws HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 505),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 401),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    ],
)
async def test_an_ambiguous_request_is_refused_and_nothing_after_it_is_answered(
    tmp_path: Path, request_bytes: bytes, status: int
) -> None:
    async with running(tmp_path) as plane:
        authorization = f"\r\nAuthorization: Bearer {plane.operator_token}".encode()
        for head in (request_bytes, request_bytes.replace(b"\r\nHost: x", b"\r\nHost: x" + authorization, 1)):
            if b"CONNECT" in head and head != request_bytes:
                continue
            answer = await plane.raw(head + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer.startswith(f"HTTP/1.1 {status}".encode()), answer[:200]
            assert answer.count(b"HTTP/1.1 ") == 1
        assert await plane.call(plane.client.servers) == []


@pytest.mark.parametrize(
    "body",
    [
        b"+2\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b" 2\r\n{}\r\n0\r\n\r\n",
        b"2\n{}\r\n0\r\n\r\n",
        b"2_\r\n{}\r\n0\r\n\r\n",
        b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"2\r\n{}xx0\r\n\r\n",
        b"2\r\n{}\n0\r\n\r\n",
        b"1" + b"0" * 30 + b"\r\n{}\r\n0\r\n\r\n",
        b"g\r\n{}\r\n0\r\n\r\n",
    ],
)
async def test_a_chunk_that_is_not_one_is_400_and_nothing_after_it_is_answered(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path) as plane:
        authorization = f"Authorization: Bearer {plane.operator_token}\r\n".encode()
        answer = await plane.raw(POST + authorization + CHUNKED + b"\r\n" + body + b"GET /healthz HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400"), answer[:200]
        assert answer.count(b"HTTP/1.1 ") == 1
        assert await plane.call(plane.client.servers) == []


@pytest.mark.parametrize(
    "body",
    [
        b"2;name=value\r\n{}\r\n0\r\n\r\n",
        b"0002\r\n{}\r\n000\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX-Trailer: a\r\n\r\n",
        b"2\r\n{}\r\n0\r\nContent-Length: 500\r\n\r\n",
    ],
)
async def test_after_a_chunked_body_the_connection_ends(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path) as plane:
        authorization = f"Authorization: Bearer {plane.operator_token}\r\n".encode()
        rest = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await plane.raw(POST + authorization + CHUNKED + b"\r\n" + body + rest)
        assert answer.startswith(b"HTTP/1.1 201"), answer[:200]
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_ambiguity_is_found_however_the_head_is_cut_into_pieces(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        kept = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        bad = POST + CHUNKED + b"Content-Length: 4\r\n\r\n"
        for index in range(1, len(kept + bad)):
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            async with asyncio.timeout(PATIENCE):
                writer.write((kept + bad)[:index])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write((kept + bad)[index:])
                answer = await reader.read()
                assert answer.count(b"HTTP/1.1 ") == 2, answer
                assert answer.startswith(b"HTTP/1.1 200")
                assert b"HTTP/1.1 400" in answer
                writer.close()
                await writer.wait_closed()


async def test_a_head_that_drips_is_cut_off_however_steadily_it_drips(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(request_head=0.1)) as plane:
        reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:

            async def drip() -> None:
                while True:
                    writer.write(b"x")
                    await asyncio.sleep(0.01)

            dripping = group.create_task(drip(), name="drip")
            assert (await reader.read(12)) == b"HTTP/1.1 408"
            dripping.cancel()
        writer.close()


async def test_a_body_that_does_not_come_is_408(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(request_body=0.05)) as plane:
        answer = await plane.raw(plane.request("POST", "/api/v1/tokens", b"{}")[:-1])
        assert answer.startswith(b"HTTP/1.1 408")


async def test_an_idle_connection_is_closed_without_a_word(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(request_head=0.05)) as plane:
        assert await plane.raw(b"") == b""


async def test_a_request_may_come_byte_by_byte(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
        for byte in plane.request("POST", "/api/v1/tokens", b'{"server_id":"srv_1"}'):
            writer.write(bytes([byte]))
            await writer.drain()
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read()).startswith(b"HTTP/1.1 201")
        writer.close()


async def test_a_client_may_leave_at_any_byte(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        request = plane.request("POST", "/api/v1/tokens", b'{"server_id":"srv_1"}')

        async def leave_at(index: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(request[:index])
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
            return answer

        for index in range(len(request)):
            assert b"201" not in await leave_at(index), index
        assert await plane.call(plane.client.servers) == []


async def test_the_halves_of_a_request_may_come_apart_anywhere(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        request = plane.request("GET", "/api/v1/servers", close=False)
        reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
        async with asyncio.timeout(PATIENCE):
            for index in range(len(request)):
                writer.write(request[:index])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(request[index:])
                assert (await reader.readuntil(b'{"servers":[],"next":"","more":false}')).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_clients_that_do_not_read_their_answers_are_dropped_and_make_room(tmp_path: Path) -> None:
    limits, timings = Limits(connections=3), Timings(write=0.1, close=0.1)
    async with running(tmp_path, limits=limits, timings=timings) as plane:
        await _fill(plane)
        writers = []
        for _ in range(limits.connections):
            _, writer = await asyncio.open_connection("127.0.0.1", plane.port, limit=1)
            # Far more than the sockets' buffers hold.
            writer.write(plane.request("GET", "/api/v1/servers", close=False) * 40)
            writers.append(writer)
        async with asyncio.timeout(PATIENCE):
            while not await plane.call(plane.client.healthy):
                pass
        for writer in writers:
            writer.transport.abort()


async def _fill(plane: Plane) -> None:
    """Enough for an answer of half a megabyte."""
    async with plane.agent() as agent:
        await agent.send("heartbeat", {"services": [{"service_id": "x" * 500_000}]})
        await agent.expect("pong")
        await plane.pinged(agent)
