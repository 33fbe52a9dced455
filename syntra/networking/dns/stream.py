"""DNS messages over TCP, each prefixed with its length in two bytes (RFC 1035 §4.2.2)."""

from __future__ import annotations

import asyncio

_LENGTH = 2


async def read_message(
    reader: asyncio.StreamReader, *, idle_secs: float, message_secs: float, limit: int
) -> bytes | None:
    """Read the next message; None when the peer closed between messages or sent nothing for `idle_secs`.

    Raises TimeoutError when a message is incomplete after `message_secs`, ConnectionError when the peer closes inside
    it or announces more than `limit` bytes. After a cancellation inside a message, close the stream.
    """
    try:
        async with asyncio.timeout(idle_secs):
            first = await reader.read(1)
    except TimeoutError:
        return None
    if not first:
        return None
    try:
        async with asyncio.timeout(message_secs):
            size = int.from_bytes(first + await reader.readexactly(_LENGTH - 1), "big")
            if size > limit:
                raise ConnectionAbortedError(f"a message of {size} bytes, over {limit}")
            return await reader.readexactly(size)
    except asyncio.IncompleteReadError as exc:
        raise ConnectionResetError("the peer closed inside a message") from exc


async def write_message(writer: asyncio.StreamWriter, wire: bytes, *, message_secs: float) -> None:
    """Send one message. Raises TimeoutError when the peer does not read in time, ConnectionError when it has closed."""
    writer.write(len(wire).to_bytes(_LENGTH, "big") + wire)
    async with asyncio.timeout(message_secs):
        await writer.drain()
