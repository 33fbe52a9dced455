"""One connection under faults: where it drops decides which error it is."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from syntra.runtime.docker.connection import EngineConnection
from syntra.runtime.docker.endpoint import Endpoint, TlsFiles
from syntra.runtime.docker.errors import (
    BadEndpoint,
    DockerError,
    EngineProtocolError,
    EngineTimeout,
    EngineUnreachable,
    StreamBroken,
)
from syntra.utils.http1 import encode_request
from tests.runtime.docker.fake_engine import Peer, answer, connected, fake_engine, replying

GET = encode_request("GET", "/", {})
RESPONSE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


async def body_of(connection: EngineConnection) -> bytes:
    body = b""
    while chunk := await connection.read_body(5):
        body += chunk
    return body


@pytest.mark.parametrize("cut", range(len(RESPONSE) + 1))
async def test_a_drop_at_any_byte_is_an_error_of_its_place(tmp_path: Path, cut: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(RESPONSE[:cut])

    head_end = RESPONSE.index(b"\r\n\r\n") + 4
    async with connected(tmp_path, script) as (_engine, connection):
        try:
            if cut < head_end:
                with pytest.raises(EngineUnreachable) as caught:
                    await connection.request(GET, method="GET", what="GET /")
                assert caught.value.sent
                return
            await connection.request(GET, method="GET", what="GET /")
            if cut < len(RESPONSE):
                with pytest.raises(StreamBroken):
                    await body_of(connection)
                with pytest.raises(StreamBroken):  # and it stays broken
                    await connection.read_body(5)
            else:
                assert await body_of(connection) == b"abc"
        finally:
            await connection.close()


async def test_what_arrived_before_a_drop_is_delivered_first(tmp_path: Path) -> None:
    async with connected(tmp_path, replying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")) as (
        _engine,
        connection,
    ):
        await connection.request(GET, method="GET", what="GET /")
        assert await connection.read_body(5) == b"abc"
        with pytest.raises(StreamBroken, match="closed inside the response body"):
            await connection.read_body(5)
        assert not connection.reusable


async def test_a_silent_body_is_a_timeout_and_loses_nothing(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        await go_on.wait()
        await peer.send(b"abc")
        await peer.closed()

    async with connected(tmp_path, script) as (_engine, connection):
        await connection.request(GET, method="GET", what="GET /")
        with pytest.raises(EngineTimeout, match=r"within 0\.01 s"):
            await connection.read_body(0.01)
        go_on.set()
        assert await body_of(connection) == b"abc"
        assert connection.reusable


async def test_bytes_that_are_no_http_are_a_protocol_error(tmp_path: Path) -> None:
    async with connected(tmp_path, replying(b"220 smtp.example ESMTP\r\n\r\n")) as (_engine, connection):
        with pytest.raises(EngineProtocolError, match="status line"):
            await connection.request(GET, method="GET", what="GET /")


async def test_an_upgraded_connection_carries_bytes_both_ways(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst")
        while data := await peer.reader.read(100):
            await peer.send(data.upper())
        await peer.send(b"bye")

    async with connected(tmp_path, script) as (_engine, connection):
        head = await connection.request(GET, method="GET", what="GET /")
        assert head.status == 101
        assert connection.upgraded
        assert not connection.reusable
        assert await connection.read_raw(5) == b"first"
        await connection.write_raw(b"hello")
        assert await connection.read_raw(5) == b"HELLO"
        with pytest.raises(EngineTimeout):
            await connection.read_raw(0.01)
        assert connection.write_eof()
        assert await connection.read_raw(5) == b"bye"
        assert await connection.read_raw(5) == b""
        await connection.close()
        assert not connection.write_eof()


async def test_closing_closes_even_when_cancelled(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.closed()

    async with fake_engine(tmp_path, script) as engine:
        connection = await EngineConnection.open(engine.endpoint)
        started = asyncio.Event()

        async def close_and_be_cancelled() -> None:
            started.set()
            await connection.close()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(close_and_be_cancelled(), name="close")
            await started.wait()
            task.cancel()
        await engine.script_end()


async def test_an_idle_connection_that_was_closed_is_noticed(tmp_path: Path) -> None:
    async with connected(tmp_path, replying(answer(200, {}))) as (engine, connection):
        assert await connection.still_open()
        await connection.request(GET, method="GET", what="GET /")
        await body_of(connection)
        await engine.script_end()
        assert not await connection.still_open()


@pytest.mark.parametrize("kind", ["missing", "plain file", "refused"])
async def test_what_cannot_be_connected_is_unreachable(tmp_path: Path, kind: str) -> None:
    endpoint = Endpoint(path=str(tmp_path / "engine.sock"))
    if kind == "plain file":
        (tmp_path / "engine.sock").touch()
    elif kind == "refused":
        endpoint = Endpoint(host="127.0.0.1", port=1)
    with pytest.raises(EngineUnreachable, match="cannot reach the engine at") as caught:
        await EngineConnection.open(endpoint)
    assert not caught.value.sent
    assert caught.value.__cause__ is not None


async def test_tls_is_mutual_and_checked(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    for name, trusted in (("good", authority), ("bad", other)):
        (tmp_path / name).mkdir()
        client = trusted.issue_cert("client.example")
        trusted.cert_pem.write_to_path(str(tmp_path / name / "ca.pem"))
        client.cert_chain_pems[0].write_to_path(str(tmp_path / name / "cert.pem"))
        client.private_key_pem.write_to_path(str(tmp_path / name / "key.pem"))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(200))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    def endpoint(name: str) -> Endpoint:
        return Endpoint(host="127.0.0.1", port=port, tls=TlsFiles(directory=str(tmp_path / name)))

    async with server:
        connection = await EngineConnection.open(endpoint("good"))
        await connection.request(GET, method="GET", what="GET /")
        assert await body_of(connection) == b""
        assert not connection.write_eof()
        await connection.close()
        with pytest.raises(EngineUnreachable, match="not trusted"):
            await EngineConnection.open(endpoint("bad"))
        (tmp_path / "good" / "cert.pem").write_text("nonsense")
        with pytest.raises(BadEndpoint, match="TLS files"):
            await EngineConnection.open(endpoint("good"))
        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > 1:  # the server takes note of the refused handshake in a task of its own
                await asyncio.sleep(0)


def test_every_error_of_a_connection_is_ours() -> None:
    for kind in (BadEndpoint, EngineProtocolError, EngineTimeout, EngineUnreachable, StreamBroken):
        assert issubclass(kind, DockerError)
