"""What the ring says about itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen


@frozen
class SignalStats:
    """Counters of one signal since the start. Bytes are those before compression."""

    appended_items: int
    appended_bytes: int
    stored_items: int
    """Now in the ring, taken or not."""
    stored_bytes: int
    dropped_items: int
    """Removed for lack of room before every consumer had taken them."""
    dropped_bytes: int
    dropped_at_ns: int
    """When that happened last; 0 for never."""
    lost_blocks: int
    """Blocks that a reader found unreadable."""


@frozen
class BufferStats:
    """State and counters of the ring."""

    max_bytes: int
    disk_bytes: int
    segments: int
    memory_bytes: int
    """What waits in memory for a disk that works."""
    memory_only: bool
    """Whether new entries are kept in memory only: kill -9 or a power cut loses them."""
    reason: str
    """Why, or why the last sync failed; empty when the disk works."""
    bad_segments: int
    torn_bytes: int
    """Cut from the end of segments at the start: what a crash left half-written."""
    sync_failures: int
    read_failures: int
    refused_records: int
    """Too large for the ring."""
    signals: Mapping[Signal, SignalStats]
