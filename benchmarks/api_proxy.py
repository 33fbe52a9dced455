"""A proxy before the Kubernetes API server that counts the requests of its clients.

Clients connect without TLS and without credentials: it adds those of the kubeconfig.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from syntra.runtime.kubernetes.access import Access, Source

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_HOST = re.compile(rb"\r\nhost: [^\r]*\r\n", re.IGNORECASE)
READ_BYTES = 64 * 1024


class ApiProxy:
    """Runs in a thread of its own while the block lasts. `counts` are requests by method and the kind of the path."""

    def __init__(self, kubeconfig: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._source = Source(kubeconfig=str(kubeconfig))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="API proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that names the proxy."""
        path.write_text(
            "apiVersion: v1\nkind: Config\n"
            f'clusters: [{{name: proxy, cluster: {{server: "http://127.0.0.1:{self.port}"}}}}]\n'
            "users: [{name: proxy, user: {}}]\n"
            "contexts: [{name: proxy, context: {cluster: proxy, user: proxy}}]\ncurrent-context: proxy\n"
        )
        return path

    def taken(self) -> dict[str, int]:
        """The counts since the last call."""
        counts, self.counts = dict(sorted(self.counts.items())), Counter()
        return counts

    async def _start(self) -> None:
        self._access = await Access.open(self._source)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = self._access.address
        behind, before = await asyncio.open_connection(
            address.host, address.port, ssl=address.tls, server_hostname=address.host
        )
        try:
            async with asyncio.TaskGroup() as group:
                answers = group.create_task(self._copy(behind, writer), name="answers")
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    while True:
                        await self._request(reader, before)
                answers.cancel()
        except* ConnectionError:
            pass
        finally:
            before.transport.abort()
            writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader, before: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        self.counts[f"{method.decode()} {_kind(target.decode())}"] += 1
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        authorization = await self._access.authorization()
        host = f"\r\nHost: {self._access.address.authority}\r\n"
        added = f"{host}Authorization: {authorization}\r\n" if authorization else host
        before.write(_HOST.sub(added.encode().replace(b"\\", b"\\\\"), head, count=1) + body)
        await before.drain()

    async def _copy(self, behind: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await behind.read(READ_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.transport.abort()


def _kind(target: str) -> str:
    """What a path is about: a kind of objects, with `watch` where it is one."""
    path, _, query = target.partition("?")
    parts = [part for part in path.split("/") if part]
    names = parts[2:] if parts[:1] == ["api"] else parts[3:]
    if names[:1] == ["namespaces"] and len(names) > 2:
        names = names[2:]
    kind = names[0] if names else path
    return f"{kind} (watch)" if "watch=1" in query else kind
