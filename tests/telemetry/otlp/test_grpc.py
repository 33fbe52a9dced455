"""The gRPC receiver with real channels: statuses, limits, addresses and TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import grpc
import pytest
import trustme
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from syntra.telemetry.intake import Outcome, Overloaded
from syntra.telemetry.otlp.grpc_call import METHODS
from syntra.telemetry.otlp.grpc_limits import GrpcLimits
from syntra.telemetry.otlp.grpc_server import GrpcReceiver
from syntra.telemetry.otlp.listening import CannotListen
from syntra.telemetry.process.settings import TlsFiles
from syntra.telemetry.process.tls import grpc_tls
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.http2_sender import Http2Sender
from tests.telemetry.otlp.running import running
from tests.telemetry.otlp.small_intake import SmallIntake, bad_data

TRACES = next(method for method, signal in METHODS.items() if signal is Signal.TRACES)
SMALL = GrpcLimits(max_request_bytes=1_000_000)


@asynccontextmanager
async def receiving(
    intake: SmallIntake, limits: GrpcLimits = SMALL, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[GrpcReceiver, int]]:
    receiver = GrpcReceiver(intake, port=0, limits=limits, tls=tls)
    async with running(receiver):
        yield receiver, await receiver.listen("127.0.0.1")
    assert intake.reserved == 0


@asynccontextmanager
async def channel(
    place: int | str, credentials: grpc.ChannelCredentials | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    target = f"unix:{place}" if isinstance(place, str) else f"127.0.0.1:{place}"
    # A pool of its own: after a failure the shared one would wait before it connects again.
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        made = grpc.aio.insecure_channel(target, options)
    else:
        made = grpc.aio.secure_channel(target, credentials, options)
    async with made:
        yield made


async def send(
    place: int | str,
    body: bytes,
    method: str = TRACES,
    compression: grpc.Compression | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> bytes:
    async with channel(place, credentials) as opened:
        response: bytes = await opened.unary_unary(method, bytes, bytes)(body, timeout=20, compression=compression)
        return response


async def refused(place: int | str, body: bytes, method: str = TRACES) -> tuple[grpc.StatusCode, Status]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await send(place, body, method)
    trailers = cast(Iterable[tuple[str, bytes]], error.value.trailing_metadata())
    details = dict(trailers).get("grpc-status-details-bin", b"")
    return error.value.code(), Status.FromString(details)


@pytest.mark.parametrize("method", METHODS)
async def test_each_service_has_its_signal(method: str) -> None:
    intake = SmallIntake()
    async with receiving(intake) as (_, port):
        assert await send(port, b"body", method) == b""
    [(signal, body, source)] = intake.received
    assert (signal, body, source.address, source.transport) == (METHODS[method], b"body", "127.0.0.1", "grpc")


@pytest.mark.parametrize("compression", grpc.Compression)
async def test_compressed_messages(compression: grpc.Compression) -> None:
    intake = SmallIntake()
    async with receiving(intake) as (_, port):
        for body in (b"", b"x", b"many bytes " * 50_000):
            await send(port, body, compression=compression)
            assert intake.bodies[-1] == body


async def test_many_requests_at_once_on_one_connection() -> None:
    intake = SmallIntake()
    async with receiving(intake) as (_, port), channel(port) as opened, asyncio.TaskGroup() as group:
        call = opened.unary_unary(TRACES, bytes, bytes)
        for number in range(300):
            group.create_task(_one(call, b"%d" % number))
    assert sorted(intake.bodies, key=str) == sorted((b"%d" % number for number in range(300)), key=str)


async def _one(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes], body: bytes) -> None:
    assert await call(body, timeout=20) == b""


async def test_rejected_items_are_a_partial_success() -> None:
    intake = SmallIntake()
    intake.outcome = Outcome(rejected=2, message="two points have no time")
    method = next(method for method, signal in METHODS.items() if signal is Signal.METRICS)
    async with receiving(intake) as (_, port):
        partial = ExportMetricsServiceResponse.FromString(await send(port, b"x", method)).partial_success
    assert (partial.rejected_data_points, partial.error_message) == (2, "two points have no time")


async def test_bad_data_is_invalid_argument_with_the_field() -> None:
    intake = SmallIntake()
    intake.error = bad_data()
    async with receiving(intake) as (_, port):
        code, status = await refused(port, b"x")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    details = BadRequest()
    assert status.details[0].Unpack(details)
    assert details.field_violations[0].field == "resource_spans[0].trace_id"


@pytest.mark.parametrize("where", ["reserve", "receive"])
async def test_overload_is_unavailable_with_the_time_to_wait(where: str) -> None:
    intake = SmallIntake()
    if where == "reserve":
        intake.budget = 10
    else:
        intake.error = Overloaded("no memory for the request", 1.5)
    async with receiving(intake) as (_, port):
        code, status = await refused(port, b"x" * 11)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert (status.code, status.message) == (14, "no memory for the request")
    details = RetryInfo()
    assert status.details[0].Unpack(details)
    assert details.retry_delay.ToMilliseconds() == 1500
    assert intake.refusals[Signal.TRACES, "overloaded"] == (1 if where == "reserve" else 0)


async def test_an_unexpected_error_is_retried_a_few_times_and_then_given_up() -> None:
    intake = SmallIntake()
    intake.error = RuntimeError("a bug")
    async with receiving(intake) as (_, port):
        codes = [(await refused(port, b"poison"))[0] for _ in range(3)]
        assert codes == [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL]
        intake.error = None
        assert await send(port, b"poison") == b""


async def test_a_bug_before_the_message_is_processed_is_unavailable() -> None:
    intake = SmallIntake()
    intake.reserve_error = RuntimeError("a bug")
    async with receiving(intake) as (_, port):
        assert (await refused(port, b"x"))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_a_message_over_the_limit_is_resource_exhausted(compression: grpc.Compression) -> None:
    intake = SmallIntake()
    async with receiving(intake) as (_, port):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await send(port, bytes(SMALL.max_request_bytes + 1), compression=compression)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await send(port, bytes(SMALL.max_request_bytes))
    assert [len(body) for body in intake.bodies if isinstance(body, bytes)] == [SMALL.max_request_bytes]


async def test_unknown_methods_are_unimplemented() -> None:
    async with receiving(SmallIntake()) as (_, port):
        code, _ = await refused(port, b"", "/opentelemetry.proto.collector.trace.v1.TraceService/Import")
        assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_slow_senders_are_ended_and_too_many_are_refused() -> None:
    intake = SmallIntake()
    limits = GrpcLimits(max_reading=2, read_secs=2.0)
    async with receiving(intake, limits) as (receiver, port):
        with Http2Sender(port) as sender:
            sender.headers(1, TRACES)
            sender.data(1, b"\0\0\0\0\x64 ten of a hundred bytes")
            sender.headers(3, TRACES)
            while receiver.unread < 2:
                await asyncio.sleep(0.01)
            code, status = await refused(port, b"x")
            assert (code, status.code) == (grpc.StatusCode.UNAVAILABLE, 14)
            while receiver.unread:
                await asyncio.sleep(0.01)
            assert receiver.requests_timed_out == 2
            assert await send(port, b"x") == b""
    assert intake.bodies == [b"x"]
    assert intake.refusals[Signal.TRACES, "timeout"] == 2


async def test_slow_senders_hold_only_what_they_have_sent() -> None:
    intake = SmallIntake(budget=4 << 20)
    async with receiving(intake, GrpcLimits()) as (receiver, port):
        with Http2Sender(port) as sender:
            for stream in (1, 3):
                sender.headers(stream, TRACES)
                sender.data(stream, b"\0\x03\xff\xff\xff" + bytes(1000))
            while receiver.unread < 2 or intake.reserved < 2 << 20:
                await asyncio.sleep(0.01)
            assert await send(port, bytes(1_000_000)) == b""
            assert intake.reserved == 2 << 20


async def test_a_request_without_a_message_is_invalid() -> None:
    async with receiving(SmallIntake()) as (_, port), channel(port) as opened:
        call = opened.stream_unary(TRACES, bytes, bytes)(None)
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_addresses_come_and_leave() -> None:
    intake = SmallIntake()
    receiver = GrpcReceiver(intake, port=0)
    async with running(receiver):
        receiver.port = await receiver.listen("127.0.0.1")
        assert await receiver.listen("127.0.0.1") == receiver.port
        await receiver.listen("127.0.0.2")
        await send(receiver.port, b"1")
        await receiver.unlisten("127.0.0.1")
        await receiver.unlisten("127.0.0.9")
        assert list(receiver.addresses) == ["127.0.0.2"]
        code, _ = await refused(receiver.port, b"2")
        assert code is grpc.StatusCode.UNAVAILABLE
        await receiver.listen("127.0.0.1")
        await send(receiver.port, b"3")
    assert list(receiver.addresses) == []
    assert intake.bodies == [b"1", b"3"]


async def test_a_sender_that_comes_before_the_receiver_runs_waits() -> None:
    intake = SmallIntake()
    receiver = GrpcReceiver(intake, port=0)
    port = await receiver.listen("127.0.0.1")
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(send(port, b"x"))
        await asyncio.sleep(0.1)
        async with running(receiver):
            assert await sent == b""
    assert intake.bodies == [b"x"]


async def test_an_address_that_is_taken_or_missing_is_an_error_and_can_be_retried() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        receiver = GrpcReceiver(SmallIntake(), port=other.getsockname()[1])
        with pytest.raises(CannotListen, match=r"cannot listen on 127.0.0.1 port .*: Address already in use; "):
            await receiver.listen("127.0.0.1")
        with pytest.raises(CannotListen):
            await receiver.listen("192.0.2.1")
    async with running(receiver):
        assert await receiver.listen("127.0.0.1") == receiver.port
        await send(receiver.port, b"x")


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "otlp.sock")
    intake = SmallIntake()
    receiver = GrpcReceiver(intake)
    async with running(receiver):
        assert await receiver.listen(path) == 0
        other = GrpcReceiver(intake)
        with pytest.raises(CannotListen, match="another process listens there"):
            await other.listen(path)
        await send(path, b"x")
        assert intake.received[0][2].address == ""
    assert not os.path.exists(path)


async def test_a_request_that_runs_ends_before_the_server_does() -> None:
    intake = SmallIntake()
    intake.gate = threading.Event()
    receiver = GrpcReceiver(intake, port=0)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(receiver.run())
        port = await receiver.listen("127.0.0.1")
        sent = group.create_task(send(port, b"x"))
        while not intake.reserved:
            await asyncio.sleep(0.01)
        closed = group.create_task(receiver.close(20))
        await asyncio.sleep(0.1)
        assert not closed.done() and not run.done()
        intake.gate.set()
        assert await sent == b""
        await closed
    assert intake.bodies == [b"x"]


async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    client = authority.issue_cert("sender")
    root = authority.cert_pem.bytes()
    paths = [tmp_path / name for name in ("cert", "key", "ca")]
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    for path, content in zip(paths, (chain, server.private_key_pem.bytes(), root), strict=True):
        path.write_bytes(content)
    tls = grpc_tls(TlsFiles(cert_path=str(paths[0]), key_path=str(paths[1]), ca_path=str(paths[2])))
    intake = SmallIntake()
    async with receiving(intake, tls=tls) as (_, port):
        with pytest.raises(grpc.aio.AioRpcError):
            await send(port, b"x", credentials=grpc.ssl_channel_credentials(root))
        chain = b"".join(blob.bytes() for blob in client.cert_chain_pems)
        credentials = grpc.ssl_channel_credentials(root, client.private_key_pem.bytes(), chain)
        assert await send(port, b"x", credentials=credentials) == b""
    assert intake.bodies == [b"x"]
