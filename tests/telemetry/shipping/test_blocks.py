"""Blocks: opened, joined, compressed again, and halved without losing or changing a record."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.telemetry.shipping.blocks import BadBlock, gzipped, halved, joined, opened, requests_of
from syntra.telemetry.shipping.destination import Part
from syntra.telemetry.signals import Signal
from tests.telemetry.shipping.samples import KINDS, SAMPLES, batch, logs, metrics, span_names, traces


def test_joined_blocks_are_one_request() -> None:
    whole = KINDS[Signal.TRACES].FromString(joined(SAMPLES[Signal.TRACES]))
    assert span_names(whole) == ["a", "b", "c"]


def test_gzip_has_the_same_bytes() -> None:
    assert gzip.decompress(gzipped(SAMPLES[Signal.LOGS])) == joined(SAMPLES[Signal.LOGS])


@pytest.mark.parametrize("block", [b"", b"nonsense", SAMPLES[Signal.TRACES].blocks[0][:-1]])
def test_a_damaged_block_is_an_error_of_its_own(block: bytes) -> None:
    with pytest.raises(BadBlock):
        opened(block)


def test_several_blocks_are_halved_by_blocks() -> None:
    found = halved(SAMPLES[Signal.METRICS])
    assert found is not None
    assert [part.blocks for part in found] == [(block,) for block in SAMPLES[Signal.METRICS].blocks]
    assert [part.items for part in found] == [2, 4]


@pytest.mark.parametrize(
    ("signal", "request_", "items"),
    [
        (Signal.TRACES, traces("a", "b", "c", "d"), 4),
        (Signal.LOGS, logs("a", "b", "c"), 3),
        (Signal.METRICS, metrics("a", "b", "c"), 6),
    ],
)
def test_one_block_is_halved_by_records(signal: Signal, request_: bytes, items: int) -> None:
    found = halved(batch(signal, [request_], items))
    assert found is not None
    assert sum(part.items for part in found) == items
    assert all(part.items for part in found)
    assert [part.raw_bytes for part in found] == [len(joined(part)) for part in found]


@given(st.lists(st.lists(st.integers(0, 2000), max_size=4), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_halving_again_and_again_keeps_every_span_in_order(sizes: list[list[int]]) -> None:
    request = KINDS[Signal.TRACES]()
    names = []
    for number, spans in enumerate(sizes):
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = f"service-{number}"
        for place, size in enumerate(spans):
            scope = resource.scope_spans.add()
            scope.scope.name = f"scope-{place}"
            names.append((f"service-{number}", f"scope-{place}", size))
            scope.spans.add(name="x" * size)
    waiting: list[Part] = [batch(Signal.TRACES, [request.SerializeToString()], len(names))]
    single: list[Part] = []
    while waiting:
        part = waiting.pop(0)
        halves = halved(part)
        if halves is None:
            single.append(part)
        else:
            waiting[:0] = halves
    found = [
        (resource.resource.attributes[0].value.string_value, scope.scope.name, len(span.name))
        for part in single
        for resource in KINDS[Signal.TRACES].FromString(joined(part)).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert found == names


def test_a_single_record_and_a_profile_cannot_be_halved() -> None:
    assert halved(batch(Signal.TRACES, [traces("a")], 1)) is None
    assert halved(SAMPLES[Signal.PROFILES]) is None


def test_profiles_are_sent_one_by_one_and_everything_else_whole() -> None:
    assert requests_of(SAMPLES[Signal.TRACES]) == (SAMPLES[Signal.TRACES],)
    assert [part.items for part in requests_of(SAMPLES[Signal.PROFILES])] == [1, 1]
