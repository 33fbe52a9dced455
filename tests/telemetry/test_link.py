"""The link between agent and telemetry process, over a real socket pair."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from syntra.telemetry.link import BODY_MAX, Link, Message


async def linked() -> tuple[Link, Link]:
    one, other = socket.socketpair()
    for end in (one, other):
        end.setblocking(False)
    return await Link.over(one), await Link.over(other)


async def test_messages_arrive_whole_and_in_order() -> None:
    one, other = await linked()
    body = bytes(range(256)) * 20_000

    async def sending() -> None:
        await one.send("plain")
        await one.send("fields", {"a": [1, "ü\n"], "b": None})
        await one.send("bytes", {"n": 1}, body)
        one.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(sending())
        received = [message async for message in everything(other)]
    assert received == [
        Message(kind="plain", fields={}),
        Message(kind="fields", fields={"a": [1, "ü\n"], "b": None}),
        Message(kind="bytes", fields={"n": 1}, body=body),
    ]
    other.close()


async def everything(link: Link) -> AsyncIterator[Message]:
    while (message := await link.receive()) is not None:
        yield message


async def test_a_message_that_is_cut_is_the_end() -> None:
    end, raw = socket.socketpair()
    end.setblocking(False)
    link = await Link.over(end)
    raw.sendall(b"\0\0\0\x0d\0\0\0\x05[")
    raw.close()
    assert await link.receive() is None
    link.close()


async def test_lengths_that_cannot_be_end_the_connection() -> None:
    end, raw = socket.socketpair()
    end.setblocking(False)
    link = await Link.over(end)
    raw.sendall((2).to_bytes(4, "big") + (BODY_MAX + 1).to_bytes(4, "big"))
    with pytest.raises(ValueError, match="too long"):
        await link.receive()
    link.close()
    raw.close()


async def test_sending_to_a_closed_end_raises() -> None:
    one, other = await linked()
    other.close()
    with pytest.raises(OSError):
        for _ in range(100):
            await one.send("x", {}, b"x" * 100_000)
            await asyncio.sleep(0)
    one.close()
