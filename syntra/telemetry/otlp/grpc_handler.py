"""Export requests over gRPC: admission, the message as raw bytes, and a status for every error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any
from urllib.parse import unquote

import grpc

from syntra.telemetry.intake import BadData, Intake, Overloaded, Source
from syntra.telemetry.otlp.failures import Failures, try_again
from syntra.telemetry.otlp.grpc_limits import GrpcLimits
from syntra.telemetry.otlp.memory import LARGE_REQUEST_BYTES, resident_bytes
from syntra.telemetry.otlp.responses import (
    RpcError,
    export_response,
    rpc_bad_data,
    rpc_internal,
    rpc_overloaded,
)
from syntra.telemetry.signals import Signal

METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": Signal.TRACES,
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": Signal.METRICS,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": Signal.LOGS,
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export": Signal.PROFILES,
}

READING_RETRY_SECS = 1.0
REMEMBERED_SOURCES = 1024
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[bytes, bytes]


class _Failed(Exception):
    """The request failed too often; its sender must give it up."""


class _Reading:
    """A message on its way."""

    __slots__ = ("has_slot", "signal", "started")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.started = monotonic()
        self.has_slot = True


class ExportHandler(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not generic at run time
    """Serves the Export method of all signals.

    The methods are unary. They are registered with a stream of requests, which is the same on the wire: so the handler
    runs before the message is read, and can refuse it unread.
    """

    def __init__(self, intake: Intake, limits: GrpcLimits, failures: Failures) -> None:
        self._intake = intake
        self._limits = limits
        self._failures = failures
        self._sources: dict[str, Source] = {}
        self._reading: dict[asyncio.Task[Any], _Reading] = {}
        self._slots = asyncio.Semaphore(limits.read_slots)
        self._unread = 0
        self.had_large = False
        """Whether a large message came since this was last set to False."""
        self.is_closing = False
        self._handlers = {
            method: grpc.stream_unary_rpc_method_handler(self._behavior(signal)) for method, signal in METHODS.items()
        }

    @property
    def unread(self) -> int:
        """Requests whose message is on its way or waits for a slot."""
        return self._unread

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler for a method; None makes grpcio answer UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)

    def expire(self) -> int:
        """Take the slots of slow messages, cancel the ones that are overdue; returns how many."""
        now = monotonic()
        slow = [
            (task, reading) for task, reading in self._reading.items() if reading.started < now - self._limits.slow_secs
        ]
        if not slow:
            return 0
        is_large = resident_bytes() > self._limits.max_resident_bytes
        cancelled = 0
        for task, reading in slow:
            if reading.has_slot:
                reading.has_slot = False
                self._slots.release()
            if is_large or reading.started < now - self._limits.read_secs:
                # grpcio answers CANCELLED, with which a sender may try again.
                task.cancel()
                self._intake.refused(reading.signal, "timeout")
                cancelled += 1
        return cancelled

    def _behavior(self, signal: Signal) -> Any:
        async def export(_: AsyncIterator[bytes], context: Context) -> bytes:
            error: RpcError
            try:
                return await self._export(signal, context)
            except BadData as bad:
                error = rpc_bad_data(bad)
            except Overloaded as busy:
                error = rpc_overloaded(busy)
            except _Failed:
                error = rpc_internal("internal error")
            except Exception as unexpected:  # noqa: BLE001 - grpcio would answer UNKNOWN
                self._failures.log_once("grpc", unexpected)
                error = rpc_overloaded(try_again())
            return await context.abort(_CODES[error.code], error.message, (("grpc-status-details-bin", error.details),))

        return export

    async def _export(self, signal: Signal, context: Context) -> bytes:
        if self._unread >= self._limits.max_reading:
            self._intake.refused(signal, "overloaded")
            raise Overloaded("too many requests; try again", READING_RETRY_SECS)
        self._unread += 1
        try:
            await self._slots.acquire()
            message = await self._message(signal, context)
        finally:
            self._unread -= 1
        if not isinstance(message, bytes):
            self._intake.refused(signal, "bad_data")
            raise BadData("the request has no message")
        peer = context.peer()
        source = self._sources.get(peer) or self._source(peer)
        if len(message) >= LARGE_REQUEST_BYTES:
            self.had_large = True
        try:
            room = self._intake.reserve(len(message))
        except Overloaded:
            self._intake.refused(signal, "overloaded")
            raise
        with room:
            try:
                outcome = await self._intake.receive_async(signal, message, source)
            except (BadData, Overloaded):
                raise
            except Exception as error:  # grpcio would answer UNKNOWN, and the sender would drop the data
                again = self._failures.failed(signal, message, error)
                raise again or _Failed from error
        return export_response(signal, outcome)

    async def _message(self, signal: Signal, context: Context) -> object:
        task = asyncio.current_task()
        assert task is not None, "cannot happen because grpcio runs each request in a task"
        reading = self._reading[task] = _Reading(signal)
        try:
            return await context.read()
        finally:
            del self._reading[task]
            if reading.has_slot:
                self._slots.release()

    def _source(self, peer: str) -> Source:
        if len(self._sources) >= REMEMBERED_SOURCES:
            self._sources.clear()
        source = self._sources[peer] = Source(address=peer_address(peer), transport="grpc")
        return source


def peer_address(peer: str) -> str:
    """The IP address in gRPC's name of a peer (`ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`); empty for a socket."""
    family, _, place = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return ""
    return unquote(place).rpartition(":")[0].strip("[]")
