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
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

        async with asyncio.timeout(PATIENCE):
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
