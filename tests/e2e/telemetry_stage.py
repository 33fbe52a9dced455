"""What tests of telemetry share: free ports, receivers that answer, what has arrived, and an endpoint to export to."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.telemetry.shipping.endpoint import SIGNALS, method
from syntra.telemetry.signals import Signal
from tests.e2e.agent_process import AgentProcess
from tests.e2e.fleet import ControlPlaneProcess
from tests.engine import wait_until

ARRIVES_SECS = 30.0


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def answers(port: int) -> bool:
    """Whether the HTTP receiver answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def stored(plane: ControlPlaneProcess, kind: str, count: int, **fields: object) -> list[dict[str, Any]]:
    """What the control plane has, once it is at least `count` items."""
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        found[:] = plane.client.all_telemetry(kind, **fields)
        return len(found) >= count

    wait_until(arrived, f"{count} {kind} of {fields}, have {len(found)}", ARRIVES_SECS)
    return found


def telemetry_pid(agent: AgentProcess) -> int:
    """The telemetry process: the agent's child of that name; 0 without one."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    for child in map(int, children):
        if Path(f"/proc/{child}/comm").read_text().startswith("syntra-tele"):
            return child
    return 0


def span_request(trace_id: str, service: str) -> bytes:
    now = time.time_ns()
    span = {"traceId": trace_id, "spanId": trace_id[:16], "name": "x", "kind": 2}
    span |= {"startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 1000)}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}).encode()


class SpanSender(threading.Thread):
    """Sends one span after another and keeps the trace ids that were acknowledged."""

    def __init__(self, service: str, port: int) -> None:
        super().__init__(name="sender")
        self.service = service
        self.port = port
        self.acknowledged: list[str] = []
        self.failures = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            trace_id = uuid.uuid4().hex
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/v1/traces", span_request(trace_id, self.service), headers)
                if connection.getresponse().status == 200:
                    self.acknowledged.append(trace_id)
            except (OSError, http.client.HTTPException):
                self.failures += 1
                time.sleep(0.02)
            finally:
                connection.close()


class SpanNames:
    """An OTLP endpoint over gRPC that keeps the names of the spans that it is sent."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._lock = threading.Lock()
        self._names: set[str] = set()

    @property
    def names(self) -> set[str]:
        """All names so far."""
        with self._lock:
            return set(self._names)

    def take(self, request: bytes) -> None:
        """Keep the names of one request."""
        decoded = ExportTraceServiceRequest.FromString(request)
        scopes = [scope for resource in decoded.resource_spans for scope in resource.scope_spans]
        with self._lock:
            self._names |= {span.name for scope in scopes for span in scope.spans}


@contextmanager
def span_names_endpoint() -> Iterator[SpanNames]:
    """Listen on loopback until the context ends; requests of other signals are accepted and forgotten."""

    def requests(signal: Signal) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if signal is Signal.TRACES:
                kept.take(request)
            return b""

        _, service, name = method(signal).split("/")
        return grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(answer)})

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([requests(signal) for signal in SIGNALS])
    kept = SpanNames(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    try:
        yield kept
    finally:
        server.stop(None).wait(10)
