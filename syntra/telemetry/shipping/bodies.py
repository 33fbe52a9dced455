"""Bodies of requests to OTLP endpoints, compressed as the settings say."""

from __future__ import annotations

import asyncio
from enum import Enum

from syntra.telemetry.shipping.blocks import gzipped, joined
from syntra.telemetry.shipping.destination import Batch

INLINE_MAX = 1024 * 1024
"""Batches up to this size are decompressed on the event loop: it takes less than a millisecond."""


class Compression(Enum):
    """How bodies are compressed. The value is the setting's, and the name of the encoding in HTTP and gRPC."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    """The blocks of the ring as they are: nothing is compressed again."""


async def body_of(batch: Batch, compression: Compression) -> bytes:
    """All requests of the batch as one. Raises BadBlock."""
    match compression:
        case Compression.ZSTD:
            return b"".join(batch.blocks)
        case Compression.GZIP:
            return await asyncio.to_thread(gzipped, batch)
        case Compression.NONE if batch.raw_bytes > INLINE_MAX:
            return await asyncio.to_thread(joined, batch)
        case Compression.NONE:
            return joined(batch)
