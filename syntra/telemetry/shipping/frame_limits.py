"""The limits of a frame of the control-plane connection, and items cut into chunks that fit. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from syntra.utils.frozen import frozen

_ENVELOPE_BYTES = 4096
"""More than the envelope, the payload's own fields and the names of its lists take."""

_ENVELOPE_VALUES = 64


@frozen
class Limits:
    """What fits into one frame. The defaults are those of `syntra.connection.codec`."""

    max_bytes: int = 16 * 1024 * 1024
    max_values: int = 200_000
    """The most JSON values; a control plane may count those of compressed data too."""

    def packed(self) -> Limits:
        """The limits of data before it is compressed.

        base64 makes four bytes of three, and zstd can make data without any pattern larger, by less than a hundredth.
        """
        return Limits(max_bytes=self.max_bytes * 73 // 100, max_values=self.max_values)


@frozen
class Entry:
    """One item for a frame: the list that it belongs to, the item, and the item encoded."""

    name: str
    item: Mapping[str, Any]
    encoded: bytes


@frozen
class Oversized:
    """An item that does not fit into a frame of its own and is dropped."""

    name: str
    """The list that it belongs to."""

    size: int
    """Its bytes, encoded."""


def escaped(item: object) -> bytes:
    """Encode an item as the connection encodes a frame: JSON in pure ASCII."""
    return json.dumps(item, separators=(",", ":")).encode()


def chunks(
    entries: Iterable[tuple[str, Mapping[str, Any]]], limits: Limits, encode: Callable[[Any], bytes]
) -> Iterator[list[Entry] | Oversized]:
    """Cut named items into chunks that fit, in order. Commas and brackets in texts count as values: never too few."""
    max_bytes = limits.max_bytes - _ENVELOPE_BYTES
    max_values = limits.max_values - _ENVELOPE_VALUES
    chunk: list[Entry] = []
    size = values = 0
    for name, item in entries:
        encoded = encode(item)
        item_size = len(encoded) + 1
        item_values = encoded.count(b",") + encoded.count(b"{") + encoded.count(b"[") + 1
        if item_size > max_bytes or item_values > max_values:
            yield Oversized(name=name, size=len(encoded))
            continue
        if chunk and (size + item_size > max_bytes or values + item_values > max_values):
            yield chunk
            chunk = []
            size = values = 0
        chunk.append(Entry(name=name, item=item, encoded=encoded))
        size += item_size
        values += item_values
    if chunk:
        yield chunk
