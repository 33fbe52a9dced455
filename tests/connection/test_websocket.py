"""One socket against a real server that ends it in every state: the caller sees a typed error, never a library's."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection

from syntra.connection.errors import NotConnected
from syntra.connection.settings import ConnectionSettings
from syntra.connection.websocket import Socket, SocketEnded, dial
from tests.connection.rig import FAST, PATIENCE, TOKEN, ControlPlane

LARGE = "x" * 6_000_000
"""Larger than what the server takes (1 MiB) and than the buffers of both sockets."""


async def opened(plane: ControlPlane) -> Socket:
    settings = ConnectionSettings(endpoint=plane.endpoint(), token=TOKEN, version="0.1.0", timings=FAST)
    socket = await dial(settings, None)
    assert isinstance(socket, Socket)
    return socket


async def ended(socket: Socket, text: str) -> list[str]:
    """Send `text`, and once more after the peer has ended the socket; then probe, close and abort it twice."""
    errors = []
    async with asyncio.timeout(PATIENCE):
        for sends in (True, True, False, False):
            try:
                await (socket.send(text) if sends else socket.probe())
            except NotConnected as refused:
                errors.append(str(refused))
        with pytest.raises(SocketEnded):
            await socket.receive()
        for _ in range(2):
            await socket.close(1000, "")
            socket.abort()
    return errors


async def test_a_message_that_the_peer_refuses_as_too_large_ends_the_socket_only() -> None:
    async def reading(plane: ControlPlane, connection: ServerConnection) -> None:
        async for _ in connection:
            pass

    async with ControlPlane(reading, max_size=1 << 20).serving() as plane:
        errors = await ended(await opened(plane), LARGE)
    assert errors
    assert all("the connection broke" in error for error in errors)


@pytest.mark.parametrize("text", ["short", LARGE], ids=["short", "large"])
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4001])
async def test_a_close_with_any_code_ends_the_socket_only(code: int, text: str) -> None:
    async def closing(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.close(code, "over")

    async with ControlPlane(closing).serving() as plane:
        socket = await opened(plane)
        assert await ended(socket, text)


@pytest.mark.parametrize("text", ["short", LARGE], ids=["short", "large"])
async def test_a_connection_that_breaks_without_a_close_ends_the_socket_only(text: str) -> None:
    async def breaking(plane: ControlPlane, connection: ServerConnection) -> None:
        connection.transport.abort()

    async with ControlPlane(breaking).serving() as plane:
        socket = await opened(plane)
        assert await ended(socket, text)
