"""A scripted API server on loopback, for faults that a real one does not show on demand."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syntra.runtime.kubernetes.access import Access, Source
from syntra.runtime.kubernetes.client import KubernetesClient
from tests.runtime.kubernetes.kubeconfig import kubeconfig


def answer(document: object, status: int = 200, *, headers: str = "") -> bytes:
    """A whole response; text is sent as it is."""
    body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def refusal(status: int, reason: str, message: str = "no", cause: str = "") -> bytes:
    details = {"details": {"causes": [{"reason": cause, "message": message}]}} if cause else {}
    said = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
    return answer({**said, **details}, status)


WATCH = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(kind: str, name: str, version: int, **about: Any) -> bytes:
    """One event of a watch, as a chunk."""
    return chunk(json.dumps({"type": kind, "object": pod(name, version, **about)}).encode() + b"\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def pod(name: str, version: int, **about: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, "resourceVersion": str(version)}, **about}


def pods(version: int, *items: dict[str, Any], rest: str = "") -> bytes:
    """A page of a list."""
    return answer({"metadata": {"resourceVersion": str(version), "continue": rest}, "items": list(items)})


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Reply = bytes | Callable[[Request], Awaitable[None]]


@dataclass
class FakeApi:
    """Answers the requests with `replies`, in order; a reply that is a function does it itself and ends by closing."""

    replies: list[Reply]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.requests]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.rstrip("\r\n").split("\r\n")
                headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
                await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(line=first, headers=headers, reader=reader, writer=writer)
                self.requests.append(request)
                assert self.replies, f"one request too many: {first}"
                reply = self.replies.pop(0)
                if not isinstance(reply, bytes):
                    await reply(request)
                    return
                await request.send(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def fake_api(*replies: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeApi]:
    """A server that answers so."""
    made = FakeApi(list(replies))
    server = await asyncio.start_server(made.connected, "127.0.0.1", 0, ssl=tls)
    made.port = int(server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        made.close()
        server.close()
        await server.wait_closed()
        # The handlers see that their connections are gone.
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client_of(api: FakeApi, folder: Path, **user: Any) -> AsyncIterator[KubernetesClient]:
    """A client with a kubeconfig of the server; `user` is the kubeconfig's."""
    path = kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{api.port}", user=user)
    async with KubernetesClient(await Access.open(Source(kubeconfig=str(path)))) as client:
        yield client


async def silence(request: Request) -> None:
    """Answer nothing until the client is gone."""
    await request.reader.read()
