"""Zstandard of agents: whatever arrives costs the limit at most, and nothing incomplete passes."""

from __future__ import annotations

import tracemalloc

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syntra.controlplane.telemetry.compression import compressed, decompressed
from syntra.model.errors import InvalidField

TEXT = b"".join(b"line %d of a batch\n" % number for number in range(20_000))

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(st.lists(st.binary(max_size=300_000), min_size=1, max_size=4), st.booleans())
def test_frames_one_behind_the_other_are_one_content(pieces: list[bytes], checksum: bool) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=checksum)
    data = b"".join(compressor.compress(piece) for piece in pieces)
    assert decompressed(data, 2_000_000) == b"".join(pieces)


def test_what_is_compressed_here_comes_back() -> None:
    assert decompressed(compressed(TEXT), len(TEXT)) == TEXT


@pytest.mark.parametrize("checksum", [True, False])
def test_data_cut_at_any_place_is_refused(checksum: bool) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=checksum)
    first = compressor.compress(b"first")
    data = first + compressor.compress(TEXT[:3000])
    for length in range(len(data)):
        if length == len(first):
            assert decompressed(data[:length], len(TEXT)) == b"first"
            continue
        with pytest.raises(InvalidField):
            decompressed(data[:length], len(TEXT))


@patient
@given(st.binary(max_size=200))
def test_other_data_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidField):
        decompressed(data, 1000)


@patient
@given(st.data())
def test_a_damaged_stream_is_refused_or_stays_within_the_limit(data: st.DataObject) -> None:
    damaged = bytearray(zstandard.compress(TEXT[:5000]))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(decompressed(bytes(damaged), 10_000)) <= 10_000
    except InvalidField as refused:
        assert refused.field == "data"


def test_one_byte_more_than_the_limit_is_refused() -> None:
    assert decompressed(compressed(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(InvalidField, match="more than 999 bytes"):
        decompressed(compressed(bytes(1000)), 999)


def test_a_bomb_costs_the_limit() -> None:
    bomb = zstandard.compress(bytes(500_000_000))
    tracemalloc.start()
    with pytest.raises(InvalidField, match="more than 1000000 bytes"):
        decompressed(bomb, 1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_window_that_needs_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(InvalidField, match="a window of at most 8 MiB"):
        decompressed(writer.compress(b"x") + writer.flush(), 1000)


def test_many_empty_frames_are_refused() -> None:
    with pytest.raises(InvalidField, match="is not a zstd stream"):
        decompressed(compressed(b"") * 5000, 1000)
