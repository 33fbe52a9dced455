"""Clients without a token cannot take the places of agents and operators."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from syntra.controlplane.connections import OPERATOR, Place, Places
from syntra.controlplane.settings import Limits, Timings
from tests.controlplane.client import ControlPlaneClientError
from tests.controlplane.harness import PATIENCE, Plane, running

LIMITS = Limits(unauthenticated=3, connections=4, connections_per_server=2)


class Visitor:
    """A connection in the tests of the arithmetic."""

    def __init__(self, places: Places) -> None:
        self.displaced = 0
        self.place: Place = places.enter(self._displaced)

    def _displaced(self) -> None:
        self.displaced += 1


def test_the_oldest_unauthenticated_client_is_displaced_by_the_newest() -> None:
    places = Places(LIMITS)
    visitors = [Visitor(places) for _ in range(5)]
    assert [visitor.displaced for visitor in visitors] == [1, 1, 0, 0, 0]
    assert not visitors[0].place.claim("srv_1")


def test_a_client_with_a_token_is_never_displaced_and_leaves_its_place_to_others() -> None:
    places = Places(LIMITS)
    agent = Visitor(places)
    assert agent.place.claim("srv_1")
    strangers = [Visitor(places) for _ in range(100)]
    assert agent.displaced == 0
    assert sum(stranger.displaced for stranger in strangers) == 97


def test_connections_with_a_token_are_bounded_for_each_server_and_in_all() -> None:
    places = Places(LIMITS)
    claims = [Visitor(places).place.claim(owner) for owner in ("srv_1", "srv_1", "srv_1", "srv_2", OPERATOR, OPERATOR)]
    assert claims == [True, True, False, True, True, False]


def test_a_repeated_claim_counts_once_and_an_end_makes_room() -> None:
    places = Places(LIMITS)
    visitors = [Visitor(places) for _ in range(3)]
    assert [visitor.place.claim("srv_1") for visitor in visitors] == [True, True, False]
    assert visitors[0].place.claim("srv_1")
    assert not visitors[0].place.claim("srv_2")
    visitors[0].place.leave()
    visitors[0].place.leave()
    assert visitors[2].place.claim("srv_1")
    assert not Visitor(places).place.claim("srv_1")


@given(st.lists(st.tuples(st.sampled_from(["enter", "claim", "leave"]), st.integers(0, 9), st.sampled_from("ab"))))
def test_the_bounds_hold_whatever_happens(steps: list[tuple[str, int, str]]) -> None:
    places = Places(LIMITS)
    visitors: list[Visitor] = []
    gone: set[Visitor] = set()
    for action, index, owner in steps:
        if action == "enter":
            visitors.append(Visitor(places))
        elif index < len(visitors):
            visitor = visitors[index]
            if action == "claim":
                had = visitor.place.owner
                claimed = visitor.place.claim(owner)
                assert not (claimed and (visitor in gone or visitor.displaced)), "a lost place was given"
                assert had is None or claimed == (had == owner)
            else:
                visitor.place.leave()
                gone.add(visitor)
        owners = [visitor.place.owner for visitor in visitors if visitor.place.owner is not None]
        assert len(owners) <= LIMITS.connections
        assert all(owners.count(name) <= LIMITS.connections_per_server for name in "ab")
        present = [v for v in visitors if v not in gone and not v.displaced and v.place.owner is None]
        assert len(present) <= LIMITS.unauthenticated
        assert all(visitor.displaced <= 1 for visitor in visitors)


@contextlib.asynccontextmanager
async def strangers(plane: Plane, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections that send half a request and then nothing more."""
    opened = [await asyncio.open_connection("127.0.0.1", plane.port) for _ in range(count)]
    for _, writer in opened:
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        await writer.drain()
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def _is_ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.read(1) == b""
    except ConnectionResetError:
        return True


async def test_unauthenticated_clients_displace_each_other_and_neither_agents_nor_operators(tmp_path: Path) -> None:
    limits = Limits(unauthenticated=4, connections=2)
    async with running(tmp_path, limits=limits) as plane:
        token = await plane.token()
        async with plane.agent(token=token) as agent, strangers(plane, 20) as readers:
            for reader in readers[:15]:
                assert await _is_ended(reader)
            # Between the strangers, a call of the operator and messages of the agent.
            assert (await plane.call(plane.client.server, "srv_1"))["connected"] is True
            await agent.settled()
        # All of them are gone: a new agent and a new stranger are served.
        async with plane.agent(token=token) as agent:
            await agent.settled()
            assert (await plane.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).startswith(
                b"HTTP/1.1 200"
            )


WRONG_TOKEN = (
    b"GET /agent/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Authorization: Bearer syn_agt_wrong\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def _refused_agent(plane: Plane) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An agent that has its close code, and does not answer it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    writer.write(WRONG_TOKEN)
    async with asyncio.timeout(PATIENCE):
        assert b"missing or bad token" in await reader.readuntil(b"token")
    return reader, writer


async def test_agents_with_a_wrong_token_are_unauthenticated(tmp_path: Path) -> None:
    limits, timings = Limits(unauthenticated=2), Timings(close=30)
    async with running(tmp_path, limits=limits, timings=timings) as plane:
        opened = [await _refused_agent(plane) for _ in range(6)]
        for reader, _ in opened[:4]:
            assert await _is_ended(reader)
        async with plane.agent() as agent:
            await agent.settled()
        for _, writer in opened:
            writer.transport.abort()


async def test_an_agent_with_a_wrong_token_cannot_send_large_messages(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(close=30)) as plane:
        reader, writer = await _refused_agent(plane)
        # The header of a frame of 1 MiB: the control plane ends the connection instead of waiting for the rest.
        writer.write(b"\x81\xff" + (2**20).to_bytes(8) + b"mask")
        assert await _is_ended(reader)
        writer.transport.abort()


async def test_one_server_has_a_bounded_number_of_connections(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(connections_per_server=2)) as plane:
        token = await plane.token("srv_1")
        async with plane.socket(token), plane.socket(token):
            with pytest.raises(InvalidStatus) as refused:
                async with plane.socket(token):
                    pass
            assert refused.value.response.status_code == 503
            async with plane.agent("srv_2") as other:
                await other.settled()


async def test_an_operators_connection_keeps_its_place_between_requests(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(unauthenticated=2, connections=1)) as plane:
        await plane.token()
        reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
        for _ in range(3):
            writer.write(plane.request("GET", "/api/v1/servers/srv_1", close=False))
            async with asyncio.timeout(PATIENCE):
                assert b"200" in await reader.readuntil(b"\r\n\r\n")
                await reader.readuntil(b'"ignored_messages":0}')
            async with strangers(plane, 6) as readers:
                assert await _is_ended(readers[0])
            with pytest.raises(ControlPlaneClientError) as refused:
                await plane.call(plane.client.servers)
            assert refused.value.code == "TOO_MANY_CONNECTIONS"
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(PATIENCE):
            while not await plane.call(plane.client.healthy):
                pass


async def test_clients_that_do_not_finish_their_tls_handshake_are_unauthenticated(tmp_path: Path) -> None:
    ca = trustme.CA()
    server_cert = ca.issue_cert("127.0.0.1")
    server_cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server_cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    async with running(
        tmp_path / "data",
        limits=Limits(unauthenticated=3),
        tls_cert=tmp_path / "cert.pem",
        tls_key=tmp_path / "key.pem",
    ) as plane:
        opened = [await asyncio.open_connection("127.0.0.1", plane.port) for _ in range(8)]
        for reader, _ in opened[:5]:
            assert await _is_ended(reader)
        for _, writer in opened:
            writer.transport.abort()


async def test_a_handshake_that_is_none_or_does_not_come_ends_the_connection(tmp_path: Path) -> None:
    ca = trustme.CA()
    server_cert = ca.issue_cert("127.0.0.1")
    server_cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server_cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    async with running(
        tmp_path / "data",
        timings=Timings(request_head=0.1),
        tls_cert=tmp_path / "cert.pem",
        tls_key=tmp_path / "key.pem",
    ) as plane:
        for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(sent)
            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(PATIENCE):
                    assert b"HTTP" not in await reader.read()
            writer.transport.abort()
