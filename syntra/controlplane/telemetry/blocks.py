"""Blocks: what the store keeps of a batch, one for each kind of item. Pure."""

from __future__ import annotations

from dataclasses import field
from enum import Enum

from syntra.utils.frozen import frozen


class Kind(Enum):
    """A list of the contract's TelemetryData. The value is its name there, and in the API."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"
    ERRORS = "errors"
    HEALTH_CHECKS = "health_checks"


class Form(Enum):
    """What a block holds when it is decompressed."""

    OTLP = "otlp"
    """An Export…ServiceRequest of the kind's OTLP service."""
    LINES = "lines"
    """One JSON object on each line: an item of the contract's TelemetryData."""


ANY_SERVICE = ""
"""In `services`: the block may have items of any service."""

MOST_SERVICES = 64
"""Services that are listed for one block. A block with more counts as one of any service."""
LONGEST_SERVICE = 256

LATEST_NS = 2**63 - 1
"""The latest time that the database can hold, in the year 2262."""


@frozen
class Contents:
    """What the index knows of a block. Times in nanoseconds since the epoch."""

    items: int
    services: frozenset[str]
    oldest_ns: int
    newest_ns: int


@frozen
class Block:
    """Items of one kind. `data` is one or more zstd frames, `raw_bytes` the size of what is in them."""

    kind: Kind
    form: Form
    contents: Contents
    raw_bytes: int
    data: bytes = field(repr=False)


@frozen
class Batch:
    """The blocks of one message. `batch_id` is "" when the agent sent none: then it cannot be recognised again."""

    batch_id: str
    blocks: tuple[Block, ...]


class Tally:
    """Counts items while they are read, for `Contents`. An item without a time counts as one of `received_ns`."""

    def __init__(self, received_ns: int) -> None:
        self.items = 0
        """The items so far."""
        self._received_ns = received_ns
        self._services: set[str] = set()
        self._times: list[int] = []

    def add(self, times_ns: list[int], services: frozenset[str]) -> None:
        """Count items of the same services, each with its time or 0."""
        if times_ns:
            self.items += len(times_ns)
            self._services |= services
            known = [min(time_ns, LATEST_NS) if time_ns > 0 else self._received_ns for time_ns in times_ns]
            self._times += (min(known), max(known))

    def contents(self) -> Contents:
        """All that was counted."""
        long = any(len(name) > LONGEST_SERVICE for name in self._services)
        services = frozenset((ANY_SERVICE,)) if long or len(self._services) > MOST_SERVICES else self._services
        return Contents(
            items=self.items,
            services=frozenset(services),
            oldest_ns=min(self._times, default=self._received_ns),
            newest_ns=max(self._times, default=self._received_ns),
        )
