"""The server's half against h2spec, the conformance tests of github.com/summerwind/h2spec."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from syntra.telemetry.otlp.http2.connection import Http2Connection
from syntra.telemetry.otlp.http2.events import RequestEnded
from syntra.telemetry.otlp.http2.headers import encode_headers
from syntra.telemetry.otlp.http2.limits import Http2Limits
from tests.engine import missing

HEADERS = encode_headers([(":status", "200")])
TRAILERS = encode_headers([("grpc-status", "0")])


def program() -> str | None:
    """h2spec on PATH or beside the other programs that tests run against."""
    peers = Path(os.environ.get("SYNTRA_PEERS") or Path.home() / ".cache/syntra-peers")
    return shutil.which("h2spec") or shutil.which("h2spec", path=str(peers))


class Server(asyncio.Protocol):
    """One connection: every complete request gets a body, after a moment, so that several are open together."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # h2spec opens as many streams as it may, and then one more.
        self.connection = Http2Connection(Http2Limits(max_streams=50))
        self.send()

    def data_received(self, data: bytes) -> None:
        for event in self.connection.receive(data):
            if isinstance(event, RequestEnded):
                asyncio.get_running_loop().call_later(0.05, self.answer, event.stream)
        self.send()

    def answer(self, stream: int) -> None:
        self.connection.respond(stream, HEADERS, b"hello", TRAILERS)
        self.send()

    def send(self) -> None:
        self.transport.write(self.connection.take_output())
        if self.connection.fault is not None:
            self.transport.close()


@pytest.mark.soak
async def test_h2spec() -> None:
    found = program() or ""
    if not found:
        missing("h2spec is not there; go install github.com/summerwind/h2spec/cmd/h2spec@latest")
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    h2spec = await asyncio.create_subprocess_exec(
        found, "-h", "127.0.0.1", "-p", str(port), "-o", "5", stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(110):
        output, _ = await h2spec.communicate()
    server.close()
    text = output.decode()
    assert ", 0 failed" in text, text[text.find("Failures:") :]
    assert int(text.rsplit(" passed", 1)[0].rsplit(" ", 1)[1]) > 130
