"""WebSocket bytes as they really come: byte by byte, fragmented, cut anywhere, from a peer that does not read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from syntra.controlplane.settings import Timings
from tests.controlplane.harness import PATIENCE, deploy_payload, hello, running


async def test_handshake_and_hello_may_come_in_one_piece_or_byte_by_byte(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        opening = _opening(plane.port, await plane.token()) + _hello_frame()
        for pieces in ([opening], [bytes([byte]) for byte in opening]):
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readuntil(b'"hello_ack"')).startswith(b"HTTP/1.1 101")
            writer.close()
            await writer.wait_closed()


async def test_an_agent_may_be_lost_at_any_byte(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        opening, frame = _opening(plane.port, await plane.token()), _hello_frame()

        async def lose_at(index: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(opening + frame[:index])
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                assert b"hello_ack" not in await reader.read()
                writer.close()
                await writer.wait_closed()

        for index in range(len(frame)):
            await lose_at(index)
        assert (await plane.call(plane.client.server, "srv_1"))["hello"] is None


async def test_fragments_with_pings_between_them_are_one_message(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:

        async def parts() -> object:
            yield '{"id": "1", "type": "alert", '
            await agent.socket.ping()
            yield '"timestamp": "", "payload": {"alert_id": "é"}}'

        await agent.socket.send(parts())  # type: ignore[arg-type]  # the library types its iterables invariantly
        await agent.settled()
        (alert,) = (await plane.call(plane.client.alerts, "srv_1"))["alerts"]
        assert alert["alert_id"] == "é"


async def test_pings_of_the_agent_are_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        async with asyncio.timeout(PATIENCE):
            await (await agent.socket.ping())


async def test_an_agent_that_answers_pings_stays(tmp_path: Path) -> None:
    timings = Timings(ping_interval=0.02, ping_timeout=0.1)
    async with running(tmp_path, timings=timings) as plane, plane.agent() as agent:
        await asyncio.sleep(0.3)
        await agent.settled()


async def test_a_protocol_error_is_closed_with_1002(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        # A frame without a mask: a client's must have one.
        agent.socket.transport.write(b"\x81\x02{}")
        assert (await agent.closed())[0] == 1002


async def test_an_agent_that_closes_normally_is_gone_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        async with plane.agent() as agent:
            await agent.socket.close(1000)
            assert agent.socket.close_code == 1000
        assert (await plane.call(plane.client.server, "srv_1"))["connected"] is False


async def test_an_agent_that_does_not_read_is_dropped_and_later_deploys_are_queued(tmp_path: Path) -> None:
    timings = Timings(write=0.1, close=0.1)
    async with running(tmp_path, timings=timings) as plane:
        reader, writer = await asyncio.open_connection("127.0.0.1", plane.port, limit=1000)
        writer.write(_opening(plane.port, await plane.token()) + _hello_frame())
        await reader.readuntil(b"hello_ack")
        state = "sent"
        while state == "sent":
            payload = deploy_payload(padding="x" * 900_000)
            accepted = await plane.call(plane.client.command, "srv_1", "deploy", payload)
            state = accepted["state"]
        # The send before dropped the link and counts as sent; it will time out. This one was certainly not written.
        assert state == "queued"
        assert (await plane.call(plane.client.server, "srv_1"))["connected"] is False
        writer.close()


def _opening(port: int, token: str) -> bytes:
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/agent/ws"))
    request = protocol.connect()
    request.headers["Authorization"] = f"Bearer {token}"
    return request.serialize()


def _hello_frame() -> bytes:
    text = json.dumps({"id": "1", "type": "agent_hello", "timestamp": "", "payload": hello()})
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=True)
