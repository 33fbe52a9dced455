"""Sends one GET to the proxy's API, on a connection of its own, and requires a complete JSON answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from syntra.networking.errors import ProxyUnreachable

if TYPE_CHECKING:
    import h11

TIMEOUT_SECS = 3.0
_BODY_MAX = 64 * 1024 * 1024
"""A thousand routes are about one megabyte."""
_READ_SIZE = 256 * 1024


class ApiClient:
    """Queries the API at `api_url` (http:// or https://, with an optional path prefix).

    `timeout` limits a complete request. Errors name `key`, the setting that contains the address.
    """

    def __init__(self, api_url: str, *, timeout: float = TIMEOUT_SECS, key: str = "networking.traefik_api") -> None:
        self._timeout = timeout
        self._key = key
        self._url = api_url.rstrip("/")
        self._parts: SplitResult = urlsplit(self._url)

    async def get(self, path: str) -> object:
        """The JSON at `path`; None when the API returns 404.

        Raises ProxyUnreachable: no connection, no answer in time, a truncated answer, invalid JSON, another status.
        Safe to cancel.
        """
        body = await self.read(path)
        if body is None:
            return None
        try:
            found: object = json.loads(body)
        except (ValueError, RecursionError) as exc:
            raise self._unreachable("the answer is not JSON") from exc
        return found

    async def read(self, path: str) -> bytes | None:
        """The raw bytes at `path`; otherwise like `get`."""
        import h11  # imported only when there is a proxy to query, not at start

        try:
            async with asyncio.timeout(self._timeout):
                status, body = await self._exchange(path)
        except TimeoutError as exc:
            raise self._unreachable(f"no answer within {self._timeout:g} s") from exc
        except OSError as exc:
            raise self._unreachable(exc.strerror or str(exc) or type(exc).__name__) from exc
        except h11.RemoteProtocolError as exc:
            raise self._unreachable("the answer was cut off or is not HTTP") from exc
        if status == 404:
            return None
        if status != 200:
            raise self._unreachable(f"it answered {status}")
        return body

    async def _exchange(self, path: str) -> tuple[int, bytes]:
        import h11

        host = self._parts.hostname or ""
        secure = self._parts.scheme == "https"
        port = self._parts.port or (443 if secure else 80)
        reader, writer = await asyncio.open_connection(host, port, ssl=True if secure else None)
        try:
            peer = h11.Connection(h11.CLIENT)
            headers = [
                ("Host", self._parts.netloc),
                ("Accept", "application/json, */*"),
                ("Connection", "close"),
            ]
            request = h11.Request(method="GET", target=(self._parts.path + path) or "/", headers=headers)
            writer.write((peer.send(request) or b"") + (peer.send(h11.EndOfMessage()) or b""))
            await writer.drain()
            return await _response(peer, reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _unreachable(self, reason: str) -> ProxyUnreachable:
        return ProxyUnreachable(
            f"cannot ask the proxy at {self._url}: {reason}; check {self._key} and that the proxy runs"
        )


async def _response(peer: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    import h11

    status = 0
    body = bytearray()
    while True:
        event = peer.next_event()
        match event:
            case h11.NEED_DATA:
                # At the end of the stream this passes b"" to h11, which then rejects an incomplete answer.
                peer.receive_data(await reader.read(_READ_SIZE))
            case h11.Response():
                status = event.status_code
            case h11.Data():
                body += event.data
                if len(body) > _BODY_MAX:
                    raise h11.RemoteProtocolError("the answer is larger than 64 MiB")
            case h11.EndOfMessage():
                return status, bytes(body)
            case h11.ConnectionClosed():
                raise h11.RemoteProtocolError("closed without an answer")
