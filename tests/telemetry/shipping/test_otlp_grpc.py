"""OTLP/gRPC: what arrives, what each status means, messages above the peer's limit."""

from __future__ import annotations

import asyncio
import logging
import ssl

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from syntra.telemetry.shipping.bodies import Compression
from syntra.telemetry.shipping.destination import Part, Sent
from syntra.telemetry.shipping.endpoint import parse_endpoint
from syntra.telemetry.shipping.otlp_grpc import MESSAGE_MAX, OtlpGrpcExporter
from syntra.telemetry.signals import Signal
from tests.telemetry.shipping.samples import SAMPLES, batch, span_names, traces
from tests.telemetry.shipping.sinks import GrpcReply, GrpcSink

CANARY = "canary-77b2e0"
RETRYABLE = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
FATAL = (
    *("UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "FAILED_PRECONDITION"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"),
)


def exporter(
    sink: GrpcSink, *, compression: Compression = Compression.NONE, timeout_secs: float = 5.0
) -> OtlpGrpcExporter:
    return OtlpGrpcExporter(
        parse_endpoint(f"http://127.0.0.1:{sink.port}", is_grpc=True),
        compression=compression,
        headers=(("authorization", f"Bearer {CANARY}"),),
        timeout_secs=timeout_secs,
    )


async def sent_with(reply: GrpcReply, part: Part = SAMPLES[Signal.TRACES]) -> Sent:
    """The result of one call that gets this reply."""
    async with GrpcSink().listen() as sink:
        sink.replies.append(reply)
        destination = exporter(sink)
        try:
            return await destination.send(part)
        finally:
            await destination.aclose()


def details(*, delay: Duration | None = None, message: str = "busy") -> tuple[tuple[str, bytes], ...]:
    status = Status(message=message)
    if delay is not None:
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return (("grpc-status-details-bin", status.SerializeToString()),)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
@pytest.mark.parametrize("signal", SAMPLES)
async def test_every_signal_arrives(signal: Signal, compression: Compression) -> None:
    part = SAMPLES[signal]
    async with GrpcSink().listen() as sink:
        destination = exporter(sink, compression=compression)
        sent = await destination.send(part)
        await destination.aclose()
    assert (sent.taken, sent.refused, sent.rejected, sent.retry) == (part.items, 0, 0, None)
    assert {each.signal for each in sink.received} == {signal}
    assert sum(len(each.raw) for each in sink.received) == part.raw_bytes
    assert all(each.headers["authorization"] == f"Bearer {CANARY}" for each in sink.received)
    assert len(sink.received) == (2 if signal is Signal.PROFILES else 1)


@pytest.mark.parametrize("code", RETRYABLE)
async def test_retryable_statuses_are_sent_again(code: str) -> None:
    sent = await sent_with(GrpcReply(code=grpc.StatusCode[code], details="not now"))
    assert sent.retry is not None
    assert sent.retry.rest is SAMPLES[Signal.TRACES]
    assert sent.retry.after_secs is None
    assert sent.reason == f"gRPC status {code} (not now)"


@pytest.mark.parametrize("code", FATAL)
async def test_all_other_statuses_are_refused_for_good(code: str) -> None:
    sent = await sent_with(GrpcReply(code=grpc.StatusCode[code], details="no"))
    assert (sent.refused, sent.retry, sent.reason) == (3, None, f"gRPC status {code} (no)")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
async def test_retry_info_is_the_least_wait(code: str) -> None:
    trailing = details(delay=Duration(seconds=2, nanos=250_000_000))
    sent = await sent_with(GrpcReply(code=grpc.StatusCode[code], trailing=trailing))
    assert sent.retry is not None
    assert sent.retry.after_secs == 2.25


async def test_details_without_retry_info_do_not_make_exhaustion_retryable() -> None:
    sent = await sent_with(GrpcReply(code=grpc.StatusCode.RESOURCE_EXHAUSTED, trailing=details()))
    assert (sent.refused, sent.retry) == (3, None)


async def test_partial_success_is_counted() -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 1
    answer.partial_success.error_message = "one has no id"
    sent = await sent_with(GrpcReply(message=answer.SerializeToString()))
    assert (sent.taken, sent.rejected, sent.reason) == (2, 1, "one has no id")


async def test_messages_stay_below_the_usual_limit_of_peers() -> None:
    names = [f"span-{number}" for number in range(100)]
    large = batch(Signal.TRACES, [traces(*names, padding=80_000)], 100)
    assert large.raw_bytes > 4 * 1024 * 1024
    async with GrpcSink().listen() as sink:
        destination = exporter(sink)
        sent = await destination.send(large)
        await destination.aclose()
    assert sent.taken == 100
    assert [name for each in sink.received for name in span_names(each.request)] == names
    assert max(len(each.raw) for each in sink.received) <= MESSAGE_MAX


async def test_a_message_above_the_peers_own_limit_is_split() -> None:
    names = [f"span-{number}" for number in range(20)]
    large = batch(Signal.TRACES, [traces(*names, padding=5_000)], 20)
    async with GrpcSink(max_message=30_000).listen() as sink:
        destination = exporter(sink)
        sent = await destination.send(large)
        await destination.aclose()
    assert (sent.taken, sent.refused) == (20, 0)
    assert [name for each in sink.received for name in span_names(each.request)] == names


async def test_a_silent_peer_meets_the_deadline_and_the_channel_is_opened_again() -> None:
    async with GrpcSink().listen() as sink:
        sink.replies += [GrpcReply(silent=True)] * 4
        destination = exporter(sink, timeout_secs=0.1)
        for _ in range(4):
            sent = await destination.send(SAMPLES[Signal.TRACES])
            assert sent.retry is not None
            assert "DEADLINE_EXCEEDED" in sent.reason
        assert (await destination.send(SAMPLES[Signal.TRACES])).taken == 3
        await destination.aclose()


async def test_an_absent_peer_is_a_retry() -> None:
    async with GrpcSink().listen() as sink:
        destination = exporter(sink)
    sent = await destination.send(SAMPLES[Signal.TRACES])
    await destination.aclose()
    assert sent.retry is not None
    assert "Connect call failed" in sent.reason


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "UNAVAILABLE"])
async def test_headers_are_secret_even_when_the_peer_repeats_them(code: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sent = await sent_with(GrpcReply(code=grpc.StatusCode[code], details=f"Bearer {CANARY} is wrong"))
    assert "is wrong" in sent.reason
    assert CANARY not in repr(sent)
    assert CANARY not in caplog.text


async def test_tls_with_a_client_certificate() -> None:
    authority = trustme.CA()
    mine, theirs = authority.issue_cert("agent@example.org"), authority.issue_cert("127.0.0.1")
    root = authority.cert_pem.bytes()
    server = grpc.ssl_server_credentials(
        [(theirs.private_key_pem.bytes(), theirs.cert_chain_pems[0].bytes())], root, require_client_auth=True
    )
    known = client_tls(authority)
    mine.configure_cert(known)
    async with GrpcSink().listen(credentials=server) as sink:
        assert (await sent_over_tls(sink.port, known)).taken == 3
        stranger = await sent_over_tls(sink.port, client_tls(authority))
        distrustful = await sent_over_tls(sink.port, client_tls(trustme.CA()))
    assert stranger.retry is not None
    assert distrustful.retry is not None and distrustful.reason.startswith("its certificate is not valid")


async def test_an_endpoint_with_tls_but_without_http2_is_named() -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    listener = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", ssl=server)
    async with listener:
        sent = await sent_over_tls(listener.sockets[0].getsockname()[1], client_tls(authority))
        await asyncio.sleep(0.01)  # the transports close
    assert sent.retry is not None
    assert sent.reason == "the endpoint does not offer HTTP/2, which gRPC needs"


def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    return context


async def sent_over_tls(port: int, tls: ssl.SSLContext) -> Sent:
    destination = OtlpGrpcExporter(parse_endpoint(f"https://127.0.0.1:{port}", is_grpc=True), tls=tls)
    try:
        return await destination.send(SAMPLES[Signal.TRACES])
    finally:
        await destination.aclose()
