"""Zstandard with a limit on what comes out, for data of agents. Pure."""

from __future__ import annotations

import zstandard

from syntra.model.errors import InvalidField

MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""The window that every decoder should support (RFC 8878 §3.1.1.1.2). It limits the decoder's own memory."""

_LEVEL = 3
_MAGIC = b"\x28\xb5\x2f\xfd"
_LONGEST_HEADER = 18
_RLE = 1  # a block of one repeated byte
# Each frame costs the decoder a new start. A frame of the agent has one for each group of requests that it stored.
_MOST_FRAMES = 4096


def compressed(raw: bytes) -> bytes:
    """One zstd frame."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(raw)


def decompressed(data: bytes, limit: int, field: str = "data") -> bytes:
    """The content of one or more zstd frames, at most `limit` bytes. Raises InvalidField for `field`.

    A bomb costs `limit` bytes of memory. The library reads an incomplete frame without an error, so the frames' ends
    are checked first.
    """
    _check_ends(data, field)
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    try:
        with decompressor.stream_reader(data, read_across_frames=True) as reader:
            raw = reader.read(limit + 1)
    except zstandard.ZstdError as exc:
        raise InvalidField(field, "is not a zstd stream with a window of at most 8 MiB") from exc
    if len(raw) > limit:
        raise InvalidField(field, f"has more than {limit} bytes when decompressed")
    return raw


def _check_ends(data: bytes, field: str) -> None:
    """Walk over frames and blocks (RFC 8878 §3.1.1): the data must end with the last block of a frame."""
    at = frames = 0
    while at < len(data):
        frames += 1
        if data[at : at + 4] != _MAGIC or frames > _MOST_FRAMES:
            raise InvalidField(field, "is not a zstd stream")
        try:
            header = data[at : at + _LONGEST_HEADER]
            checksum = 4 if zstandard.get_frame_parameters(header).has_checksum else 0
            at += zstandard.frame_header_size(header)
        except zstandard.ZstdError as exc:
            raise InvalidField(field, "is not a zstd stream") from exc
        is_last = False
        while not is_last:
            block = int.from_bytes(data[at : at + 3], "little")
            is_last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            at += 3 + (1 if kind == _RLE else size)
            if at > len(data):
                raise InvalidField(field, "is an incomplete zstd stream")
        at += checksum
    if at != len(data) or not frames:
        raise InvalidField(field, "is an incomplete zstd stream")
