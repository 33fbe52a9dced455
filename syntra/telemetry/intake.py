"""What a receiver needs from the pipeline: room for a request, and a durable yes or a reason for a no.

The receivers of OTLP use this interface, and so do the collectors of logs and metrics. Pure.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from google.protobuf.message import Message

from syntra.telemetry.read_requests import ReadTraces
from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen


@frozen
class Source:
    """Who sent a request: the address as seen by the receiver, without a port. Empty for a unix socket."""

    address: str
    transport: str
    """`grpc` or `http`."""


@frozen
class Outcome:
    """What became of a request that was accepted: how many of its items were rejected, and why (`partial_success`)."""

    rejected: int = 0
    message: str = ""


@frozen
class CollectedLines:
    """Lines of one container that the agent read itself."""

    resource: bytes
    """The container's resource, encoded; the same bytes as in the request."""
    request: bytes
    """An encoded ExportLogsServiceRequest."""
    items: int
    failures: bytes = b""
    """The records with an exception once more, as fields of an encoded ScopeLogs."""


class BadData(Exception):
    """The request cannot be decoded, now or later: HTTP 400, INVALID_ARGUMENT. The text is for the sender.

    `field` names the place in the request, for BadRequest's violations; empty when it is the request as a whole.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Overloaded(Exception):
    """There is no room now; the sender should try again after `retry_secs`: HTTP 429 or 503, UNAVAILABLE."""

    def __init__(self, message: str, retry_secs: float) -> None:
        super().__init__(message)
        self.retry_secs = retry_secs


Request = bytes | Message | ReadTraces


class Intake(Protocol):
    """Takes requests. Every method may be called from any thread at any time."""

    def reserve(self, size: int) -> AbstractContextManager[None]:
        """Reserve `size` bytes of memory until the context ends. Raises Overloaded when there is no room.

        A receiver reserves before it reads a body, and reserves the difference when a body becomes larger.
        """
        ...

    def receive(self, signal: Signal, request: Request, source: Source) -> Outcome:
        """Decode, process and keep a request. It returns when the kept items are in the ring on disk.

        `request` is an Export…ServiceRequest, encoded or not. Raises BadData and Overloaded.
        """
        ...

    async def receive_async(self, signal: Signal, request: bytes, source: Source) -> Outcome:
        """As `receive`, for the event loop of the gRPC receiver; requests that arrive together share one write."""
        ...

    def refused(self, signal: Signal | None, reason: str) -> None:
        """Count a request that a receiver refused by itself: `too_large`, `encoding`, `overloaded`, `timeout`, …"""
        ...
