"""The socket of an upgraded connection, read and written directly.

An asyncio transport closes both directions when one write fails, and what has arrived but was not read is lost. A
command that exits without reading its input makes writes fail while its output still waits in the socket, so an
upgraded connection without TLS leaves the transport.
"""

from __future__ import annotations

import asyncio
import os
import socket

from syntra.runtime.docker.errors import StreamBroken

READ_BYTES = 256 * 1024
SEND_BUFFER_BYTES = 1024 * 1024


class RawSocket:
    """A duplicate of a connected socket; closing it leaves the original open. `rest` was read before."""

    def __init__(self, descriptor: int, rest: bytes, *, what: str) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._socket.setblocking(False)
        # The kernel takes what it allows (wmem_max of socket(7)); more on its way means fewer waits.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._rest = rest
        self._what = what

    async def read(self) -> bytes:
        """The next bytes, b"" at the end; cancelling loses nothing. Raises StreamBroken for a reset."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        # While there is always something to read, sock_recv never lets the loop run: no deadline would end a `yes`.
        await asyncio.sleep(0)
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, READ_BYTES)
        except OSError as exc:
            raise StreamBroken(self._what, (exc.strerror or str(exc)).lower()) from exc

    async def write(self, data: bytes) -> None:
        """Send all of it, waiting while the other side does not read. Raises StreamBroken; reading stays possible."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except OSError as exc:
            raise StreamBroken(self._what, (exc.strerror or str(exc)).lower()) from exc

    def write_eof(self) -> None:
        """End our direction; one that has ended already is left alone."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise StreamBroken(self._what, (exc.strerror or str(exc)).lower()) from exc

    def close(self) -> None:
        """Close the duplicate."""
        self._socket.close()
