"""The messages between the agent and the telemetry process, over a socket pair.

A message is a kind, fields (JSON) and bytes: four bytes with the length of the head, four with the length of the
bytes, then both. Either side trusts the other; a message that breaks these rules ends the connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping

from syntra.model.fields import Json
from syntra.utils.frozen import frozen

_LENGTHS = struct.Struct("!II")
HEAD_MAX = 16 * 1024 * 1024
BODY_MAX = 64 * 1024 * 1024
# How many bytes may wait for the other side before `send` waits.
_HIGH_WATER = 1024 * 1024


@frozen
class Message:
    """One message; `body` is empty when it carries no bytes."""

    kind: str
    fields: Mapping[str, Json]
    body: bytes = b""


class Link:
    """One end. `send` may be called by several tasks, `receive` by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=_HIGH_WATER)

    @classmethod
    async def over(cls, end: socket.socket) -> Link:
        """The link over one end of a socket pair."""
        return cls(*await asyncio.open_connection(sock=end))

    async def send(self, kind: str, fields: Mapping[str, Json] | None = None, body: bytes = b"") -> None:
        """Send a message; waits while too much is under way. Raises OSError when the other side is gone."""
        head = json.dumps([kind, fields or {}], separators=(",", ":")).encode()
        self._writer.write(_LENGTHS.pack(len(head), len(body)))
        self._writer.write(head)
        if body:
            self._writer.write(body)
        await self._writer.drain()

    async def receive(self) -> Message | None:
        """The next message; None when the other side has closed. Raises ValueError for a message that is none."""
        try:
            head_length, body_length = _LENGTHS.unpack(await self._reader.readexactly(_LENGTHS.size))
            if head_length > HEAD_MAX or body_length > BODY_MAX:
                raise ValueError(f"a message of {head_length} and {body_length} bytes is too long")
            head = await self._reader.readexactly(head_length)
            body = await self._reader.readexactly(body_length) if body_length else b""
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        kind, fields = json.loads(head)
        return Message(kind=kind, fields=fields, body=body)

    def close(self) -> None:
        """Close this end; the other side reads what was sent, then the end."""
        self._writer.close()
