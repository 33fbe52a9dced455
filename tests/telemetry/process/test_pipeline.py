"""From a request to the ring: counted, identified, durable, or refused with the right kind of no."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import ExportProfilesServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.intake import BadData, Overloaded, Source
from syntra.telemetry.signals import Record, Signal
from tests.telemetry.buffer.rings import plain
from tests.telemetry.process.rigs import IDENTITY, Rig, one_span, pipeline

LOCAL = Source(address="127.0.0.1", transport="http")


def large_profile() -> bytes:
    """More than a quarter of the smallest ring, and nothing to compress."""
    request = ExportProfilesServiceRequest()
    request.dictionary.string_table.extend(["", os.urandom(150_000).hex()])
    profile = request.resource_profiles.add().scope_profiles.add().profiles.add()
    profile.profile_id = bytes(range(16))
    profile.original_payload = os.urandom(400_000)
    return request.SerializeToString()


def test_a_request_is_in_the_ring_when_it_is_accepted(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        request = one_span(count=3)
        outcome = rig.pipeline.receive(Signal.TRACES, request, LOCAL)
        assert (outcome.rejected, outcome.message) == (0, "")
        assert rig.stored(Signal.TRACES) == 3
        count = rig.counts.signals[Signal.TRACES]
        assert (count.requests, count.received, count.kept, count.received_bytes) == (1, 3, 3, len(request))


async def test_the_same_on_a_loop(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        await rig.pipeline.receive_async(Signal.TRACES, one_span(count=3), LOCAL)
        assert rig.stored(Signal.TRACES) == rig.counts.signals[Signal.TRACES].kept == 3


def test_a_decoded_request_is_counted_by_its_encoded_size(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        request = one_span()
        rig.pipeline.receive(Signal.TRACES, ExportTraceServiceRequest.FromString(request), LOCAL)
        assert rig.counts.signals[Signal.TRACES].received_bytes == len(request)


async def test_the_address_says_who_sent_it_whatever_the_request_claims(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        rig.senders.update({"172.18.0.2": IDENTITY})
        reader = rig.ring.reader("own", [Signal.TRACES])
        source = Source(address="172.18.0.2", transport="grpc")
        await rig.pipeline.receive_async(Signal.TRACES, one_span(service="liar"), source)
        rig.pipeline.receive(Signal.TRACES, one_span("other", service="liar"), source)
        batch = reader.next(max_items=10, max_bytes=1 << 20)
        assert batch is not None and batch.items == 2

        data = plain(batch)
        assert b"liar" not in data
        assert data.count(b"svc_web") == 2


async def test_bad_data_is_counted_and_keeps_nothing(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        for _ in range(2):
            with pytest.raises(BadData):
                rig.pipeline.receive(Signal.TRACES, b"\xff\xff", LOCAL)
            with pytest.raises(BadData):
                await rig.pipeline.receive_async(Signal.LOGS, b"\xff\xff", LOCAL)
        assert rig.counts.refused == {("traces", "bad_data"): 2, ("logs", "bad_data"): 2}
        assert rig.counts.signals[Signal.TRACES].received == 0
        assert rig.stored(Signal.TRACES) == 0


async def test_what_the_ring_can_never_keep_is_refused_for_good(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        request = large_profile()
        with pytest.raises(BadData, match="more than a quarter of the buffer"):
            rig.pipeline.receive(Signal.PROFILES, request, LOCAL)
        with pytest.raises(BadData, match=r"raise telemetry\.buffer_max_mb"):
            await rig.pipeline.receive_async(Signal.PROFILES, request, LOCAL)
        assert rig.counts.refused == {("profiles", "bad_data"): 2}
        assert rig.counts.signals[Signal.PROFILES].requests == 0
        # The next request is none the worse for it.
        await rig.pipeline.receive_async(Signal.TRACES, one_span(), LOCAL)


async def test_a_closed_ring_asks_to_try_again(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        rig.ring.close()
        with pytest.raises(Overloaded) as refused:
            rig.pipeline.receive(Signal.TRACES, one_span(), LOCAL)
        assert refused.value.retry_secs > 0
        with pytest.raises(Overloaded, match="the buffer is closed"):
            await rig.pipeline.receive_async(Signal.TRACES, one_span(), LOCAL)
        assert rig.counts.refused == {("traces", "overloaded"): 2}


def test_items_that_are_rejected_one_by_one_are_told_to_the_sender(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest.FromString(one_span(count=3))
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b"short"
    with pipeline(tmp_path) as rig:
        outcome = rig.pipeline.receive(Signal.TRACES, request.SerializeToString(), LOCAL)
        assert outcome.rejected == 1 and "rejected 1" in outcome.message
        count = rig.counts.signals[Signal.TRACES]
        assert (count.received, count.rejected, count.kept) == (3, 1, 2)


def test_what_the_agent_makes_is_kept_but_was_not_received(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        rig.tails.begin(1, "", "")
        rig.pipeline.keep([Record(signal=Signal.METRICS, items=4, data=b"")])
        count = rig.counts.signals[Signal.METRICS]
        assert (count.received, count.requests, count.kept) == (0, 0, 4)


def test_memory_and_refusals_of_the_receivers(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        with rig.pipeline.reserve(100):
            assert rig.budget.reserved == 100
        rig.pipeline.refused(Signal.LOGS, "encoding")
        rig.pipeline.refused(None, "timeout")
        assert rig.counts.refused == {("logs", "encoding"): 1, ("", "timeout"): 1}


def test_an_empty_request_is_accepted(tmp_path: Path) -> None:
    with pipeline(tmp_path) as rig:
        _accepts_nothing(rig)


def _accepts_nothing(rig: Rig) -> None:
    assert rig.pipeline.receive(Signal.TRACES, b"", LOCAL).rejected == 0
    assert rig.counts.signals[Signal.TRACES].requests == 1
    assert rig.stored(Signal.TRACES) == 0
