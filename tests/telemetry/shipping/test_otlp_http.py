"""OTLP/HTTP: what arrives, what each answer means, and what a connection does."""

from __future__ import annotations

import asyncio
import logging
import ssl

import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from syntra.telemetry.shipping.bodies import Compression
from syntra.telemetry.shipping.destination import Part, Sent
from syntra.telemetry.shipping.endpoint import parse_endpoint
from syntra.telemetry.shipping.otlp_http import OtlpHttpExporter
from syntra.telemetry.signals import Signal
from tests.telemetry.shipping.samples import SAMPLES, batch, span_names, traces
from tests.telemetry.shipping.sinks import HttpReply, HttpSink

CANARY = "canary-3f9a1c"


def exporter(
    sink: HttpSink, compression: Compression = Compression.ZSTD, timeout_secs: float = 5.0
) -> OtlpHttpExporter:
    return OtlpHttpExporter(
        parse_endpoint(f"http://127.0.0.1:{sink.port}{sink.prefix}", is_grpc=False),
        compression=compression,
        headers=(("authorization", f"Bearer {CANARY}"), ("x-tenant", "a b")),
        timeout_secs=timeout_secs,
    )


async def sent_with(reply: HttpReply, part: Part = SAMPLES[Signal.TRACES]) -> Sent:
    """The result of one request that gets this reply."""
    async with HttpSink().listen() as sink:
        sink.replies.append(reply)
        destination = exporter(sink)
        try:
            return await destination.send(part)
        finally:
            await destination.aclose()


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("signal", SAMPLES)
async def test_every_signal_arrives_in_every_compression(signal: Signal, compression: Compression) -> None:
    async with HttpSink().listen() as sink:
        destination = exporter(sink, compression)
        part = SAMPLES[signal]
        sent = await destination.send(part)
        await destination.aclose()
    assert (sent.taken, sent.refused, sent.rejected, sent.retry) == (part.items, 0, 0, None)
    assert sent.wire_bytes == sum(len(each.body) for each in sink.received)
    assert {each.signal for each in sink.received} == {signal}
    assert sum(len(each.raw) for each in sink.received) == part.raw_bytes
    for each in sink.received:
        assert each.headers["content-type"] == "application/x-protobuf"
        assert each.headers["x-tenant"] == "a b"
        assert each.headers["authorization"] == f"Bearer {CANARY}"
        assert each.headers.get("content-encoding", "none") == compression.value
        assert each.request.ByteSize()


async def test_zstd_blocks_are_sent_untouched_in_one_request() -> None:
    async with HttpSink().listen() as sink:
        destination = exporter(sink)
        await destination.send(SAMPLES[Signal.TRACES])
        await destination.aclose()
    assert [each.body for each in sink.received] == [b"".join(SAMPLES[Signal.TRACES].blocks)]
    assert span_names(sink.received[0].request) == ["a", "b", "c"]


async def test_profiles_are_never_joined() -> None:
    async with HttpSink().listen() as sink:
        destination = exporter(sink)
        await destination.send(SAMPLES[Signal.PROFILES])
        await destination.aclose()
    assert [each.request.dictionary.string_table[1] for each in sink.received] == ["p", "q"]


async def test_the_path_of_the_endpoint_is_kept() -> None:
    async with HttpSink(prefix="/otlp").listen() as sink:
        destination = exporter(sink)
        assert (await destination.send(SAMPLES[Signal.LOGS])).taken == 3
        await destination.aclose()


async def test_a_signal_that_otlp_does_not_have_is_refused() -> None:
    errors = Part(signal=Signal.ERRORS, blocks=(b"",), items=4, raw_bytes=0)
    sent = await sent_with(HttpReply(), errors)
    assert (sent.refused, sent.reason) == (4, "OTLP has no signal errors")


async def test_requests_share_one_connection() -> None:
    async with HttpSink().listen() as sink:
        destination = exporter(sink)
        for _ in range(5):
            await destination.send(SAMPLES[Signal.TRACES])
        await destination.aclose()
    assert (len(sink.received), sink.connections) == (5, 1)


async def test_a_connection_that_the_peer_closed_is_replaced_without_a_retry() -> None:
    async with HttpSink().listen() as sink:
        destination = exporter(sink)
        await destination.send(SAMPLES[Signal.TRACES])
        sink.replies.append(HttpReply(cut=True))
        assert (await destination.send(SAMPLES[Signal.TRACES])).taken == 3
        sink.drop_connections()
        await asyncio.sleep(0.01)
        assert (await destination.send(SAMPLES[Signal.TRACES])).taken == 3
        await destination.aclose()
    assert sink.connections == 3


async def test_connection_close_is_honoured() -> None:
    async with HttpSink().listen() as sink:
        sink.replies.append(HttpReply(headers={"connection": "close"}))
        destination = exporter(sink)
        await destination.send(SAMPLES[Signal.TRACES])
        await destination.send(SAMPLES[Signal.TRACES])
        await destination.aclose()
    assert sink.connections == 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_retryable_statuses_are_sent_again(status: int) -> None:
    sent = await sent_with(HttpReply(status))
    assert sent.retry is not None
    assert sent.retry.rest is SAMPLES[Signal.TRACES]
    assert sent.retry.after_secs is None
    assert sent.taken == sent.refused == 0
    assert sent.reason == f"HTTP {status}"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 415, 422, 500, 501, 505])
async def test_all_other_statuses_are_refused_for_good(status: int) -> None:
    sent = await sent_with(HttpReply(status))
    assert (sent.refused, sent.retry, sent.reason) == (3, None, f"HTTP {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_nothing_is_lost(status: int) -> None:
    async with HttpSink().listen() as other, HttpSink().listen() as sink:
        sink.replies.append(HttpReply(status, {"location": f"http://127.0.0.1:{other.port}/v1/traces"}))
        destination = exporter(sink)
        sent = await destination.send(SAMPLES[Signal.TRACES])
        await destination.aclose()
    assert sent.retry is not None
    assert "redirects are not followed; set telemetry.export.endpoint" in sent.reason
    assert not other.received


async def test_retry_after_is_the_least_wait() -> None:
    sent = await sent_with(HttpReply(503, {"retry-after": "7"}))
    assert sent.retry is not None
    assert sent.retry.after_secs == 7.0


async def test_retry_info_in_the_body_is_read() -> None:
    status = Status(message="busy")
    status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=3, nanos=500_000_000)))
    sent = await sent_with(HttpReply(429, body=status.SerializeToString()))
    assert sent.retry is not None
    assert (sent.retry.after_secs, sent.reason) == (3.5, "HTTP 429 (busy)")


async def test_partial_success_is_counted() -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "two are too old"
    sent = await sent_with(HttpReply(body=answer.SerializeToString()))
    assert (sent.taken, sent.rejected, sent.reason, sent.retry) == (1, 2, "two are too old", None)


async def test_a_success_with_a_strange_body_is_a_success() -> None:
    sent = await sent_with(HttpReply(body=b"<html>\xff"))
    assert (sent.taken, sent.rejected) == (3, 0)


async def test_an_endless_answer_is_cut_off() -> None:
    sent = await sent_with(HttpReply(200, body=bytes(5 * 1024 * 1024)))
    assert sent.retry is not None
    assert "larger than 4194304 bytes" in sent.reason


async def test_a_silent_peer_meets_the_deadline() -> None:
    async with HttpSink().listen() as sink:
        sink.replies.append(HttpReply(silent=True))
        destination = exporter(sink, timeout_secs=0.05)
        sent = await destination.send(SAMPLES[Signal.TRACES])
        await destination.aclose()
    assert sent.retry is not None
    assert sent.reason == "no answer within 0.05 s"


async def test_an_absent_peer_is_a_retry() -> None:
    async with HttpSink().listen() as sink:
        destination = exporter(sink)
    sent = await destination.send(SAMPLES[Signal.TRACES])
    assert sent.retry is not None
    assert "127.0.0.1" in sent.reason or "refused" in sent.reason.lower()


async def test_a_batch_above_the_limit_is_split_by_blocks_and_then_by_records() -> None:
    names = [f"span-{number}" for number in range(40)]
    large = batch(Signal.TRACES, [traces(*names[:30], padding=2000), traces(*names[30:], padding=2000)], 40)
    async with HttpSink().listen() as sink:
        sink.limit = 25_000
        destination = exporter(sink)
        sent = await destination.send(large)
        attempts = len(sink.received)
        again = await destination.send(large)
        await destination.aclose()
    taken = [each for each in sink.received if len(each.raw) <= sink.limit]
    assert (sent.taken, sent.refused, again.taken) == (40, 0, 40)
    assert [name for each in taken for name in span_names(each.request)] == names * 2
    resource = taken[0].request.resource_spans[0]
    assert (resource.schema_url, resource.scope_spans[0].schema_url, resource.scope_spans[0].scope.name) == (
        "r",
        "s",
        "test",
    )
    assert resource.resource.attributes[0].value.string_value == "shop"
    # The limit is remembered: the second time nothing is refused.
    assert len(sink.received) - attempts == len(taken) // 2


async def test_one_record_above_the_limit_is_refused_and_the_others_arrive() -> None:
    requests = [traces("small"), traces("large", padding=100_000), traces("last")]
    async with HttpSink().listen() as sink:
        sink.limit = 50_000
        destination = exporter(sink)
        sent = await destination.send(batch(Signal.TRACES, requests, 3))
        await destination.aclose()
    arrived = [name for each in sink.received if len(each.raw) <= sink.limit for name in span_names(each.request)]
    assert (sent.taken, sent.refused) == (2, 1)
    assert arrived == ["small", "last"]
    assert "too large for the peer" in sent.reason


async def test_what_was_taken_of_a_split_batch_is_not_sent_again() -> None:
    large = batch(Signal.TRACES, [traces("a", padding=30_000), traces("b", padding=30_000)], 2)
    async with HttpSink().listen() as sink:
        sink.replies += [HttpReply(413), HttpReply(), HttpReply(503)]
        destination = exporter(sink)
        sent = await destination.send(large)
        assert sent.retry is not None
        assert (sent.taken, sent.retry.rest.items) == (1, 1)
        rest = await destination.send(sent.retry.rest)
        await destination.aclose()
    assert rest.taken == 1
    assert [span_names(each.request) for each in sink.received] == [["a", "b"], ["a"], ["b"], ["b"]]


async def test_a_damaged_block_is_dropped_alone() -> None:
    good = SAMPLES[Signal.TRACES]
    damaged = Part(signal=Signal.TRACES, blocks=(b"nonsense",), items=9, raw_bytes=9)
    async with HttpSink().listen() as sink:
        destination = exporter(sink, Compression.GZIP)
        sent = await destination.send(damaged)
        assert (await destination.send(good)).taken == 3
        await destination.aclose()
    assert (sent.refused, sent.retry) == (9, None)
    assert "damaged" in sent.reason


@pytest.mark.parametrize("status", [400, 429, 302])
async def test_headers_are_secret_even_when_the_peer_repeats_them(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = Status(message=f"wrong token Bearer {CANARY}, really: {CANARY}").SerializeToString()
    sent = await sent_with(HttpReply(status, body=body))
    assert CANARY not in repr(sent)
    assert CANARY not in caplog.text


async def test_tls_with_a_client_certificate() -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(client)
    authority.issue_cert("agent@example.org").configure_cert(client)
    async with HttpSink().listen(tls=server) as sink:
        endpoint = parse_endpoint(f"https://127.0.0.1:{sink.port}", is_grpc=False)
        destination = OtlpHttpExporter(endpoint, tls=client)
        assert (await destination.send(SAMPLES[Signal.TRACES])).taken == 3
        await destination.aclose()
        stranger = OtlpHttpExporter(endpoint, tls=ssl.create_default_context())
        sent = await stranger.send(SAMPLES[Signal.TRACES])
        await stranger.aclose()
        await asyncio.sleep(0.1)  # asyncio's server has a task for the handshake that failed
    assert sent.retry is not None
    assert sent.reason.startswith("its certificate is not valid")
