"""The exporter over gRPC against peers that go away, refuse, stall, are slow or are no gRPC."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from syntra.telemetry.shipping.bodies import Compression
from syntra.telemetry.shipping.destination import Part, Sent
from syntra.telemetry.shipping.endpoint import parse_endpoint
from syntra.telemetry.shipping.grpc_connection import ANSWER_MAX
from syntra.telemetry.shipping.otlp_grpc import OtlpGrpcExporter
from syntra.telemetry.signals import Signal
from tests.telemetry.shipping.http2_peer import HEAD, Http2Peer, http2_peers, succeed
from tests.telemetry.shipping.samples import SAMPLES, batch, traces

TRACES = SAMPLES[Signal.TRACES]
PREFIX_BYTES = 5


@asynccontextmanager
async def exporter(url: str, timeout_secs: float = 5.0) -> AsyncIterator[OtlpGrpcExporter]:
    made = OtlpGrpcExporter(parse_endpoint(url, is_grpc=True), compression=Compression.NONE, timeout_secs=timeout_secs)
    try:
        yield made
    finally:
        await made.aclose()
        await asyncio.sleep(0.01)  # the transports close


def large(items: int = 1, each: int = 300_000) -> Part:
    """Spans that do not compress, so that sizes are what they seem."""
    return batch(Signal.TRACES, [traces(*(f"{n}{os.urandom(each // 2).hex()}" for n in range(items)))], items)


async def send(url: str, part: Part = TRACES, timeout_secs: float = 5.0) -> Sent:
    async with exporter(url, timeout_secs) as destination:
        return await destination.send(part)


def go_away(last_stream: int) -> bytes:
    frame = GoAwayFrame(stream_id=0, last_stream_id=last_stream, error_code=0)
    return frame.serialize()


async def test_a_call_has_the_headers_of_grpc() -> None:
    async with http2_peers() as (url, peers):
        assert (await send(url, timeout_secs=2.5)).taken == 3
    [headers] = peers[0].headers.values()
    assert headers == {
        ":method": "POST",
        ":scheme": "http",
        ":authority": url.removeprefix("http://"),
        ":path": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "syntra-agent",
        "grpc-timeout": "2500m",
        "grpc-accept-encoding": "identity, gzip",
    }


async def test_calls_share_one_connection() -> None:
    async with http2_peers() as (url, peers), exporter(url) as destination:
        results = await asyncio.gather(*(destination.send(TRACES) for _ in range(8)))
    assert [each.taken for each in results] == [3] * 8
    assert len(peers) == 1 and len(peers[0].bodies) == 8


async def test_no_connection_has_more_calls_than_its_peer_allows() -> None:
    settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    async with http2_peers(settings=settings) as (url, peers), exporter(url) as destination:
        assert (await destination.send(TRACES)).taken == 3  # from here on the setting is known
        results = await asyncio.gather(*(destination.send(large()) for _ in range(3)))
    assert [each.taken for each in results] == [1] * 3
    assert {peer.most_at_once for peer in peers} == {1}


@pytest.mark.parametrize("window", [1, 1000, 65_535, 2**20])
async def test_a_message_follows_the_flow_control_of_its_peer(window: int) -> None:
    settings = {SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.MAX_FRAME_SIZE: 2**15}
    part = large(each=300_000 if window > 1 else 1000)
    async with http2_peers(settings=settings) as (url, peers):
        assert (await send(url, part)).taken == 1
    [body] = peers[0].bodies.values()
    assert len(body) == part.raw_bytes + PREFIX_BYTES


async def test_calls_end_on_a_connection_that_goes_away_and_new_ones_use_another() -> None:
    asked = asyncio.Event()

    def slow(peer: Http2Peer, stream: int) -> None:
        # The peer takes this call and no later one, and answers only afterwards.
        peer.write(go_away(stream))
        asyncio.get_running_loop().call_later(0.2, answer, peer, stream)
        asked.set()

    def answer(peer: Http2Peer, stream: int) -> None:
        peer.succeed(stream)
        peer.flush()

    async with http2_peers(slow) as (url, peers), exporter(url) as destination:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(destination.send(TRACES))
            await asked.wait()
            await asyncio.sleep(0.05)
            second = await destination.send(TRACES)
        assert (first.result().taken, second.taken) == (3, 3)
        assert [list(peer.bodies) for peer in peers] == [[1], [1]]


async def test_a_call_that_its_peer_has_not_begun_is_sent_again_at_once() -> None:
    def refuse(peer: Http2Peer, stream: int) -> None:
        if len(connections) == 1:
            peer.write(go_away(0))
        else:
            peer.succeed(stream)

    async with http2_peers(refuse) as (url, connections):
        assert (await send(url)).taken == 3
    assert len(connections) == 2


async def test_a_refused_call_is_sent_again_once() -> None:
    def refuse(peer: Http2Peer, stream: int) -> None:
        peer.http2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)

    async with http2_peers(refuse) as (url, peers):
        sent = await send(url)
    assert sent.retry is not None and sent.reason == "the peer has refused the call"
    assert sum(len(peer.bodies) for peer in peers) == 2


async def test_a_connection_that_ends_before_the_answer_is_a_retry() -> None:
    async with http2_peers(lambda peer, stream: peer.drop()) as (url, _):
        sent = await send(url)
    assert (sent.retry is not None and "closed" in sent.reason) or "reset" in sent.reason


async def test_a_reset_has_its_status() -> None:
    def reset(peer: Http2Peer, stream: int) -> None:
        peer.http2.reset_stream(stream, ErrorCodes.CANCEL)

    async with http2_peers(reset) as (url, _):
        sent = await send(url)
    assert sent.retry is not None
    assert sent.reason == "gRPC status CANCELLED (the peer has reset the call with CANCEL)"


async def test_the_status_may_come_before_the_message_is_sent() -> None:
    """A peer that refuses the headers reads no body: the rest of it must not be awaited."""

    def never(peer: Http2Peer, stream: int) -> None:
        raise AssertionError("the message was sent to its end")

    settings = {SettingCodes.INITIAL_WINDOW_SIZE: 20_000}
    async with http2_peers(never, settings, reads=False) as (url, peers), exporter(url) as destination:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(destination.send(large()))
            while not (peers and peers[0].bodies):
                await asyncio.sleep(0.01)
            refusal = [*HEAD, ("grpc-status", "16"), ("grpc-message", "who")]
            peers[0].http2.send_headers(1, refusal, end_stream=True)
            peers[0].flush()
        sent = running.result()
    assert (sent.refused, sent.reason) == (1, "gRPC status UNAUTHENTICATED (who)")


async def test_a_stalled_peer_meets_the_deadline_and_other_calls_go_on() -> None:
    def answer(peer: Http2Peer, stream: int) -> None:
        if stream > 1:
            peer.succeed(stream)

    async with http2_peers(answer) as (url, peers), exporter(url, timeout_secs=0.3) as destination:
        async with asyncio.TaskGroup() as tasks:
            stalled = tasks.create_task(destination.send(TRACES))
            await asyncio.sleep(0.05)
            assert (await destination.send(TRACES)).taken == 3
        sent = stalled.result()
        assert sent.retry is not None and "DEADLINE_EXCEEDED" in sent.reason
        assert (await destination.send(TRACES)).taken == 3
    assert len(peers) == 1


async def test_an_http1_server_is_named() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        sent = await send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert sent.retry is not None
    assert sent.reason == "the endpoint speaks HTTP/1.1, not gRPC; check its port"


async def test_a_peer_that_breaks_http2_is_a_retry() -> None:
    async with http2_peers(lambda peer, stream: peer.write(b"\0\0\0\7\7\0\0\0\1")) as (url, _):
        sent = await send(url)
    assert sent.retry is not None and sent.reason.startswith("the peer broke HTTP/2")


async def test_an_answer_of_a_proxy_has_the_status_of_http() -> None:
    def bad_gateway(peer: Http2Peer, stream: int) -> None:
        peer.http2.send_headers(stream, [(":status", "502"), ("content-type", "text/html")])
        peer.http2.send_data(stream, b"<h1>Bad Gateway</h1>", end_stream=True)

    async with http2_peers(bad_gateway) as (url, _):
        sent = await send(url)
    assert sent.retry is not None and sent.reason == "gRPC status UNAVAILABLE (HTTP 502)"


async def test_an_answer_that_is_too_large_is_a_retry() -> None:
    def flood(peer: Http2Peer, stream: int) -> None:
        peer.http2.send_headers(stream, HEAD)
        more(peer, stream)

    def more(peer: Http2Peer, stream: int) -> None:
        if peer.transport is None or peer.transport.is_closing():
            return
        try:
            room = min(16_000, peer.http2.local_flow_control_window(stream))
            if room:
                peer.http2.send_data(stream, bytes(room))
                peer.flush()
        except ProtocolError:  # the call was reset, which ends the flood
            return
        asyncio.get_running_loop().call_later(0.0001, more, peer, stream)

    async with http2_peers(flood) as (url, _):
        sent = await send(url, timeout_secs=20.0)
    assert sent.retry is not None and sent.reason == f"its answer is larger than {ANSWER_MAX} bytes"


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_compressed_answer_is_read(damaged: bool) -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 2

    def answer(peer: Http2Peer, stream: int) -> None:
        packed = gzip.compress(response.SerializeToString())
        packed = packed[:-9] + b"x" if damaged else packed
        peer.http2.send_headers(stream, [*HEAD, ("grpc-encoding", "gzip")])
        peer.http2.send_data(stream, b"\1" + len(packed).to_bytes(4, "big") + packed)
        peer.http2.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    async with http2_peers(answer) as (url, _):
        sent = await send(url)
    # Damaged or not, the status says that the peer has the batch.
    assert sent.taken + sent.rejected == 3
    assert damaged or sent.rejected == 2


async def test_an_answer_may_come_byte_by_byte() -> None:
    def trickle(peer: Http2Peer, stream: int) -> None:
        peer.succeed(stream)
        answer = peer.http2.data_to_send()
        for at in range(len(answer)):
            asyncio.get_running_loop().call_later(at * 0.002, peer.write, answer[at : at + 1])

    async with http2_peers(trickle) as (url, _):
        assert (await send(url)).taken == 3


async def test_a_peer_that_pings_is_answered() -> None:
    def ping(peer: Http2Peer, stream: int) -> None:
        peer.http2.ping(b"12345678")
        succeed(peer, stream)

    async with http2_peers(ping) as (url, peers), exporter(url) as destination:
        assert (await destination.send(TRACES)).taken == 3
        assert (await destination.send(TRACES)).taken == 3
        while len(peers[0].pongs) < 2:
            await asyncio.sleep(0.01)
        assert peers[0].pongs == [b"12345678"] * 2


async def test_an_idle_connection_that_its_peer_leaves_is_closed() -> None:
    async with http2_peers() as (url, peers), exporter(url) as destination:
        assert (await destination.send(TRACES)).taken == 3
        transport = peers[0].transport
        assert transport is not None
        peers[0].write(go_away(1))
        async with asyncio.timeout(5):
            while not transport.is_closing():
                await asyncio.sleep(0.01)
        assert (await destination.send(TRACES)).taken == 3
    assert len(peers) == 2


async def test_what_was_given_up_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with http2_peers(lambda peer, stream: None) as (url, peers), exporter(url, timeout_secs=0.1) as destination:
        assert (await destination.send(TRACES)).retry is not None
        peers[0].drop()
        await asyncio.sleep(0.05)
    gc.collect()
    assert caplog.records == []
