"""The HTTP connection against answers that come in pieces, are cut off, or are not HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from syntra.telemetry.shipping.endpoint import Endpoint
from syntra.telemetry.shipping.http_connection import Answer, ConnectionEnded, HttpConnection

HEADERS = [("host", "h"), ("content-length", "4")]
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
)


@asynccontextmanager
async def peer(pieces: Sequence[bytes], *, closes: bool = False) -> AsyncIterator[HttpConnection]:
    """A connection to a peer that reads one request and answers with these pieces."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/traces HTTP/1.1\r\n")
        assert await reader.readexactly(4) == b"body"
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if not closes:
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await HttpConnection.open(Endpoint(host="127.0.0.1", port=port, is_tls=False), None)
    try:
        yield connection
    finally:
        connection.close()
        await ended.wait()
        server.close()
        await asyncio.sleep(0)


async def post(connection: HttpConnection) -> Answer:
    async with asyncio.timeout(5):
        return await connection.post("/v1/traces", HEADERS, b"body")


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer_may_come_byte_by_byte_and_cut_anywhere(answer: bytes) -> None:
    cuts = [[answer[:index], answer[index:]] for index in range(1, len(answer))]
    for pieces in ([answer], [bytes([byte]) for byte in answer], *cuts):
        async with peer(pieces) as connection:
            found = await post(connection)
            assert (found.status, found.header(b"x-a"), found.body) == (200, "1", b"hello")
            assert connection.is_usable


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer_that_ends_too_early_is_no_answer(answer: bytes) -> None:
    for end in range(len(answer)):
        async with peer([answer[:end]], closes=True) as connection:
            with pytest.raises(ConnectionEnded) as caught:
                await post(connection)
            assert caught.value.is_stale is (end == 0)
            assert not connection.is_usable


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
        bytes(range(256)) * 100,
    ],
)
async def test_what_is_not_http_ends_the_connection(answer: bytes) -> None:
    async with peer([answer]) as connection:
        with pytest.raises(ConnectionEnded):
            await post(connection)
        assert not connection.is_usable


async def test_cancelling_closes_the_connection() -> None:
    async with peer([b"HTTP/1.1 200 OK\r\n"]) as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.post("/v1/traces", HEADERS, b"body")
        assert not connection.is_usable


async def test_an_unasked_answer_closes_the_connection() -> None:
    async with peer([ANSWERS[0], b"HTTP/1.1 408 Request Timeout\r\n\r\n"]) as connection:
        assert (await post(connection)).status == 200
        await asyncio.sleep(0.05)
        assert not connection.is_usable
        with pytest.raises(ConnectionEnded) as caught:
            await post(connection)
        assert caught.value.is_stale


async def test_an_answer_before_the_whole_request_was_read_is_taken() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await HttpConnection.open(Endpoint(host="127.0.0.1", port=port, is_tls=False), None)
    size = 20 * 1024 * 1024
    async with asyncio.timeout(5):
        answer = await connection.post("/v1/traces", [("host", "h"), ("content-length", str(size))], bytes(size))
    assert answer.status == 413
    assert not connection.is_usable
    server.close()
    await asyncio.sleep(0.1)
