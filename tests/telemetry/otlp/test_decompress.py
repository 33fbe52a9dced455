"""Decompression in pieces: every encoding whole, in bytes, cut at every index, and as a bomb."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable

import pytest
import zstandard

from syntra.telemetry.intake import BadData
from syntra.telemetry.otlp.decompress import MAX_MEMBERS, PIECE_BYTES, UnknownEncoding, decompressor

BODY = b"".join(b"span %d of %d; " % (number, number * 7919) for number in range(60))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_stream(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return packer.compress(data) + packer.flush()


ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("zstd", zstd),
    ("zstd", zstd_stream),
]


def unpacked(encoding: str, parts: Iterable[bytes]) -> bytes:
    unpack = decompressor(encoding)
    assert unpack is not None
    return b"".join(unpack(parts))


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
def test_a_body_comes_out_however_it_is_cut(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    packed = encode(BODY)
    assert unpacked(encoding, [packed]) == BODY
    assert unpacked(encoding, [packed[at : at + 1] for at in range(len(packed))]) == BODY
    for at in range(len(packed) + 1):
        assert unpacked(encoding, [packed[:at], packed[at:]]) == BODY


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
def test_an_incomplete_body_is_bad_data_at_every_index(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    packed = encode(BODY)
    for at in range(1, len(packed)):
        with pytest.raises(BadData):
            unpacked(encoding, [packed[:at]])
        with pytest.raises(BadData):
            unpacked(encoding, [packed[:at], b""])


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
def test_a_large_body_comes_in_pieces(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    body = BODY * 3000
    unpack = decompressor(encoding)
    assert unpack is not None
    pieces = list(unpack([encode(body)]))
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= PIECE_BYTES + 64


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("damage", [b"no such format", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\0" * 100])
def test_damaged_bodies_are_bad_data(encoding: str, damage: bytes) -> None:
    with pytest.raises(BadData):
        unpacked(encoding, [damage])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_body_without_bytes_is_empty(encoding: str) -> None:
    assert unpacked(encoding, []) == b""
    assert unpacked(encoding, [b""]) == b""


def test_gzip_members_and_zstd_frames_may_follow_each_other() -> None:
    assert unpacked("gzip", [gzip.compress(BODY) + gzip.compress(b"more") + b"\0" * 9]) == BODY + b"more"
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert unpacked("zstd", [zstd(BODY) + skippable + zstd_stream(b"more")]) == BODY + b"more"


def test_bytes_behind_the_end_are_bad_data() -> None:
    for encoding, packed in (("gzip", gzip.compress(BODY)), ("deflate", zlib.compress(BODY)), ("zstd", zstd(BODY))):
        with pytest.raises(BadData):
            unpacked(encoding, [packed + b"tail"])
        with pytest.raises(BadData):
            unpacked(encoding, [packed, b"tail"])


def test_many_empty_gzip_members_are_refused() -> None:
    member = gzip.compress(b"")
    assert unpacked("gzip", [member * MAX_MEMBERS]) == b""
    with pytest.raises(BadData):
        unpacked("gzip", [member * (MAX_MEMBERS + 1)])


def test_a_zstd_window_of_more_than_8_mib_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=25, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(b"x" * 1000) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    with pytest.raises(BadData, match="window"):
        unpacked("zstd", [packed + packer.flush()])


def test_a_damaged_zstd_body_leaves_the_decompressor_of_the_thread_usable() -> None:
    for _ in range(3):
        with pytest.raises(BadData):
            unpacked("zstd", [zstd(BODY)[:-3]])
        assert unpacked("zstd", [zstd(BODY)]) == BODY


@pytest.mark.parametrize("encoding", ["gzip, gzip", "snappy", "br", "gzip,", "zstd;q=1"])
def test_other_encodings_are_unknown(encoding: str) -> None:
    with pytest.raises(UnknownEncoding):
        decompressor(encoding)
    assert decompressor(" identity ") is None
