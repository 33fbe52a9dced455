"""An OTLP endpoint over gRPC for log records."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from syntra.telemetry.shipping.endpoint import SIGNALS, method
from syntra.telemetry.signals import Signal


class LogBodies:
    """Keeps the bodies of log records."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: Counter[str] = Counter()

    def bodies(self) -> Counter[str]:
        """Each body, and how often it came."""
        with self._lock:
            return Counter(self._bodies)

    def take(self, request: bytes) -> None:
        """Keep one request."""
        found = bodies_of(request)
        with self._lock:
            self._bodies.update(found)


def bodies_of(request: bytes) -> list[str]:
    """The bodies of all log records in an encoded request."""
    decoded = ExportLogsServiceRequest.FromString(request)
    scopes = [scope for resource in decoded.resource_logs for scope in resource.scope_logs]
    return [record.body.string_value for scope in scopes for record in scope.log_records]


@contextmanager
def log_sink(port: int, take: Callable[[bytes], None]) -> Iterator[None]:
    """Listen on loopback until the context ends. `take` gets each encoded request of logs, in one of two threads."""

    def handlers(wanted: Signal) -> Any:
        def answer(request: bytes, _context: grpc.ServicerContext) -> bytes:
            if wanted is Signal.LOGS:
                take(request)
            return b""

        _, service, name = method(wanted).split("/")
        return grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(answer)})

    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers([handlers(wanted) for wanted in SIGNALS])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait(10)
