"""A load generator for OTLP receivers, in a process of its own: several connections, each with one request at a time.

Encodes its requests, warms the receiver up, prints `ready`, waits for a line on stdin, sends for the given time, and
prints one line of JSON. Only requests that are answered with success count; one that is refused for the moment is sent
again after a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from abc import ABC, abstractmethod
from typing import Self

import grpc
import grpc.aio

from benchmarks.otlp_requests import Template, templates

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PAUSE_SECS = 0.02
REQUEST_SECS = 30.0
WARM_UP_SECS = 0.5


class Connection(ABC):
    """One connection."""

    @abstractmethod
    async def send(self, body: bytes) -> bool:
        """Send a request; false when it is to be tried again. Raises for every other failure."""

    @abstractmethod
    async def close(self) -> None:
        """Close it."""


class GrpcConnection(Connection):
    """A channel with a connection of its own."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)
        self._call = self._channel.unary_unary(TRACES, None, None)

    async def send(self, body: bytes) -> bool:
        try:
            await self._call(body, timeout=REQUEST_SECS)
        except grpc.aio.AioRpcError as exc:
            if exc.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                return False
            raise
        return True

    async def close(self) -> None:
        await self._channel.close(None)


class HttpConnection(Connection, asyncio.Protocol):
    """A kept-alive connection that reads no more of an answer than it must."""

    def __init__(self, content_type: str) -> None:
        self._head = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: "
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._received = b""

    @classmethod
    async def open(cls, port: int, content_type: str) -> Self:
        _, made = await asyncio.get_running_loop().create_connection(lambda: cls(content_type), "127.0.0.1", port)
        return made

    async def send(self, body: bytes) -> bool:
        assert self._transport is not None, "only an open connection sends"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(f"{self._head}{len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(REQUEST_SECS):
            status = await self._answer
        if status == 200:
            return True
        if status in (429, 502, 503, 504):
            return False
        raise RuntimeError(f"the receiver answered {status}")

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        lowered = head.lower()
        place = lowered.find(b"content-length:")
        length = int(lowered[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(rest) < length:
            return
        self._received = rest[length:]
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the receiver closed the connection"))


async def connect(protocol: str, port: int) -> Connection:
    """A connection for `grpc`, `http/protobuf` or `http/json`."""
    if protocol == "grpc":
        return GrpcConnection(port)
    is_json = protocol == "http/json"
    return await HttpConnection.open(port, "application/json" if is_json else "application/x-protobuf")


class Load:
    """What one run has done."""

    def __init__(self, made: list[Template]) -> None:
        self._templates = made
        self._chance = random.Random()
        self.requests = 0
        self.bytes = 0
        self.refused = 0
        self.latencies: list[float] = []

    async def drive(self, connection: Connection, until: float) -> None:
        """Send on one connection until that time of `time.monotonic`."""
        number = self._chance.randrange(len(self._templates))
        while time.monotonic() < until:
            number = (number + 1) % len(self._templates)
            body = self._templates[number].next(self._chance)
            began = time.monotonic()
            while not await connection.send(body):
                self.refused += 1
                await asyncio.sleep(PAUSE_SECS)
                if time.monotonic() >= until:
                    return
                began = time.monotonic()
            self.latencies.append(time.monotonic() - began)
            self.requests += 1
            self.bytes += len(body)

    async def run(self, connections: list[Connection], seconds: float) -> None:
        """Send on all connections."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(self.drive(connection, until))


def milliseconds(latencies: list[float], rank: float) -> float:
    """A percentile by nearest rank."""
    ordered = sorted(latencies) or [0.0]
    return round(1000 * ordered[max(0, math.ceil(rank * len(ordered)) - 1)], 2)


async def main(protocol: str, port: int, spans: int, count: int, seconds: float) -> None:
    """One run."""
    made = templates(spans, is_json=protocol == "http/json")
    connections = [await connect(protocol, port) for _ in range(count)]
    warm_up = Load(made)
    await warm_up.run(connections, WARM_UP_SECS)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    load = Load(made)
    began = time.monotonic()
    await load.run(connections, seconds)
    figures = {
        "requests": load.requests,
        "spans": load.requests * spans,
        "bytes": load.bytes,
        "refused": load.refused,
        "warm_up_spans": warm_up.requests * spans,
        "seconds": round(time.monotonic() - began, 3),
        "p50_ms": milliseconds(load.latencies, 0.5),
        "p99_ms": milliseconds(load.latencies, 0.99),
    }
    for connection in connections:
        await connection.close()
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.otlp_load", description=__doc__)
    parser.add_argument("--protocol", choices=("grpc", "http/protobuf", "http/json"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--spans", type=int, required=True, help="spans of one request")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    asyncio.run(main(given.protocol, given.port, given.spans, given.connections, given.seconds))
