"""Requests that a receiver has read further than their bytes, so that the pipeline need not do it again. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Encoded(bytes):
    """A request that the receiver encoded itself, so that it is valid for certain."""

    __slots__ = ()


class ReadScope:
    """Spans of one scope that a receiver has read, and not encoded yet.

    Their ids are valid, they have no tracestate, a start, and times of 64 bits.
    """

    __slots__ = ("encoded", "items", "trace_ids", "with_events")

    def __init__(self, items: list[Any], trace_ids: list[bytes], with_events: list[tuple[int, bytes]]) -> None:
        self.items = items
        """Objects with the fields of a span by their names in protobuf, which may be changed."""
        self.trace_ids = trace_ids
        self.with_events = with_events
        """The spans that have events, by index, encoded."""
        self.encoded: bytes | None = None
        """All spans as fields of their scope, once they are encoded."""

    def keep(self, items: list[Any]) -> None:
        """Keep only these spans, some of which may have changed."""
        self.items = items
        self.encoded = None


class ReadResource:
    """The scopes of one resource."""

    __slots__ = ("resource", "scopes")

    def __init__(self, resource: list[bytes], scopes: list[ReadScope]) -> None:
        self.resource = resource
        """The encoded Resource; none or one."""
        self.scopes = scopes


class NotEncodable(Exception):
    """A request that a receiver has read cannot be encoded as it was read; `ReadTraces.decode` says why."""


class ReadTraces(ABC):
    """A traces request that was read, and is encoded when it is known what of it to keep."""

    def __init__(self, resources: list[ReadResource], size: int) -> None:
        self.resources = resources
        self.size = size
        """The bytes of the request as it was received."""

    @abstractmethod
    def encode_spans(self) -> None:
        """Encode all spans. Raises NotEncodable."""

    @abstractmethod
    def encode(self, *, without_empty: bool) -> bytes:
        """What remains of the request, encoded; `without_empty` leaves out empty scopes. Raises NotEncodable."""

    @abstractmethod
    def decode(self) -> bytes:
        """The whole request, encoded from what was received. Raises BadData."""
