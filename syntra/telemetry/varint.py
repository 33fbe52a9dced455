"""Varints of Protocol Buffers: numbers in groups of seven bits, the lowest first. Pure."""

from __future__ import annotations

SHORT_VARINTS = tuple(bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7]) for n in range(1 << 14))
"""Encodings of the numbers below 16,384: every length and most counts."""


def varint(number: int) -> bytes:
    """Encode a number from 0 to 2^64 - 1 as a varint."""
    if number < 16384:
        return SHORT_VARINTS[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
