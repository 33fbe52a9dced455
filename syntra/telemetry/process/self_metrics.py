"""The process's own counters as Prometheus text (exposition format 0.0.4).

The names are those of the OpenTelemetry Collector ("Internal telemetry"), where something here means the same, so that
its dashboards and alerts work; process figures have the names that all Prometheus clients use.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from syntra.telemetry.signals import Signal

if TYPE_CHECKING:
    from syntra.telemetry.process.service import TelemetryService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ITEMS = {
    Signal.TRACES: "spans",
    Signal.METRICS: "metric_points",
    Signal.LOGS: "log_records",
    Signal.PROFILES: "profiles",
    Signal.ERRORS: "errors",
}
Labels = Mapping[str, str]
Sample = tuple[Labels, float]


def self_metrics(service: TelemetryService) -> tuple[str, bytes]:
    """Content type and body of `GET /metrics`. May be called from any thread."""
    return CONTENT_TYPE, "".join(_families(service)).encode()


def _families(service: TelemetryService) -> Iterable[str]:
    for signal, name in _ITEMS.items():
        count = service.counts.signals[signal]
        if signal is not Signal.ERRORS:
            yield _family(f"otelcol_receiver_accepted_{name}_total", "counter", [({}, count.received)])
            yield _family(f"otelcol_receiver_refused_{name}_total", "counter", [({}, count.rejected)])
        yield _family(f"otelcol_processor_sampled_out_{name}_total", "counter", [({}, count.sampled_out)])
        sent, failed = [], []
        for destination, shipper in service.shippers.items():
            shipped = shipper.progress.counts.get(signal)
            labels = {"exporter": destination}
            sent.append((labels, float(shipped.items if shipped else 0)))
            failed.append((labels, float(shipped.refused + shipped.rejected if shipped else 0)))
        yield _family(f"otelcol_exporter_sent_{name}_total", "counter", sent)
        yield _family(f"otelcol_exporter_send_failed_{name}_total", "counter", failed)
    refused = [({"signal": signal, "reason": why}, float(n)) for (signal, why), n in service.counts.refused.items()]
    yield _family("otelcol_receiver_refused_requests_total", "counter", refused)
    waiting = [({"exporter": name}, float(s.progress.waiting)) for name, s in service.shippers.items()]
    yield _family("otelcol_exporter_queue_size", "gauge", waiting)
    stats = service.buffer.stats()
    yield _family("syntra_telemetry_buffer_bytes", "gauge", [({}, stats.disk_bytes + stats.memory_bytes)])
    yield _family("syntra_telemetry_buffer_max_bytes", "gauge", [({}, stats.max_bytes)])
    dropped = [({"signal": signal.value}, float(one.dropped_items)) for signal, one in stats.signals.items()]
    yield _family("syntra_telemetry_buffer_dropped_items_total", "counter", dropped)
    yield _family("syntra_telemetry_receive_memory_bytes", "gauge", [({}, service.budget.reserved)])
    yield from _process()


def _process() -> Iterable[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield _family("process_cpu_seconds_total", "counter", [({}, usage.ru_utime + usage.ru_stime)])
    pages = Path("/proc/self/statm").read_text().split()
    page = os.sysconf("SC_PAGE_SIZE")
    yield _family("process_virtual_memory_bytes", "gauge", [({}, int(pages[0]) * page)])
    yield _family("process_resident_memory_bytes", "gauge", [({}, int(pages[1]) * page)])
    yield _family("process_open_fds", "gauge", [({}, len(os.listdir("/proc/self/fd")))])
    # Field 22, in clock ticks after boot (proc(5)); the name before it may have spaces.
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = booted + ticks / os.sysconf("SC_CLK_TCK")
    yield _family("process_start_time_seconds", "gauge", [({}, round(started, 2))])


def _family(name: str, kind: str, samples: Iterable[Sample]) -> str:
    lines = [f"{name}{_labels(labels)} {value:.17g}\n" for labels, value in samples]
    return f"# TYPE {name} {kind}\n{''.join(lines)}" if lines else ""


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
