"""An OTLP/HTTP endpoint that counts what it is sent and keeps nothing, in a process of its own.

Prints its port. `GET /counts` returns JSON: requests, bytes, and the number of spans or log records if it was started
with `--spans` or `--logs`.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import sys

import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Counts:
    """Since the start."""

    def __init__(self, *, with_spans: bool, with_logs: bool) -> None:
        self._with_spans = with_spans
        self._with_logs = with_logs
        self.requests = 0
        self.bytes = 0
        self.spans = 0
        self.logs = 0

    def add(self, head: bytes, body: bytes) -> None:
        """Count a request."""
        self.requests += 1
        self.bytes += len(body)
        if self._with_spans:
            request = ExportTraceServiceRequest.FromString(_decompressed(head, body))
            self.spans += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
        if self._with_logs and b" /v1/logs " in head:
            logs = ExportLogsServiceRequest.FromString(_decompressed(head, body))
            self.logs += sum(len(scope.log_records) for each in logs.resource_logs for scope in each.scope_logs)

    def answer(self) -> bytes:
        """For `GET /counts`."""
        body = json.dumps(
            {"requests": self.requests, "bytes": self.bytes, "spans": self.spans, "logs": self.logs}
        ).encode()
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Peer(asyncio.Protocol):
    """One connection. Requests have a Content-Length."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._received = bytearray()
        self._wanted = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        while len(self._received) >= self._wanted:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end])
            if head.startswith(b"GET "):
                self._transport.write(self._counts.answer())
                self._transport.close()
                return
            size = end + 4 + _length(head)
            if len(self._received) < size:
                self._wanted = size
                return
            self._counts.add(head.lower(), bytes(self._received[end + 4 : size]))
            del self._received[:size]
            self._wanted = 0
            self._transport.write(ANSWER)
            if not self._received:
                return


def _length(head: bytes) -> int:
    lowered = head.lower()
    place = lowered.find(b"content-length:")
    assert place >= 0, f"a request without Content-Length: {head!r}"
    return int(lowered[place + 15 :].split(b"\r\n", 1)[0])


def _decompressed(head: bytes, body: bytes) -> bytes:
    if b"content-encoding: gzip" in head:
        return gzip.decompress(body)
    if b"content-encoding: zstd" in head:
        with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as stream:
            return stream.read()
    return body


async def main(*, with_spans: bool, with_logs: bool) -> None:
    """Serve until killed."""
    counts = Counts(with_spans=with_spans, with_logs=with_logs)
    server = await asyncio.get_running_loop().create_server(lambda: Peer(counts), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.otlp_sink", description=__doc__)
    parser.add_argument("--spans", action="store_true", help="decode every request and count its spans")
    parser.add_argument("--logs", action="store_true", help="decode every request of logs and count its records")
    given = parser.parse_args()
    asyncio.run(main(with_spans=given.spans, with_logs=given.logs))
