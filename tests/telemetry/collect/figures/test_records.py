"""Samples as OTLP: what is encoded by hand decodes to the metrics of the conventions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from syntra.model.figures import ContainerReading
from syntra.telemetry.collect.figures.message import (
    ContainerFigures,
    FiguresMessage,
    message_fields,
    parse_message,
)
from syntra.telemetry.collect.figures.metrics import SCHEMA_URL, ResourceMetrics, counter, gauge, message
from syntra.telemetry.collect.figures.records import CONTAINERS_IN_ONE, records
from syntra.telemetry.processing.identity import Identity
from syntra.telemetry.signals import Signal
from syntra.utils.file_systems import FileSystem
from syntra.utils.host_reading import Disk, HostReading, Interface

BOOT, START, NOW = 1_700_000_000_000_000_000, 1_700_000_100_000_000_000, 1_700_000_160_000_000_000
HOST = HostReading(
    cpu_secs={"user": 10.5, "system": 2.0, "idle": 100.25, "irq": 0.25, "softirq": 0.5},
    cpus=2,
    load=(0.5, 0.25, 0.125),
    memory={"MemTotal": 1000, "MemAvailable": 400, "MemFree": 100, "Cached": 250, "SwapTotal": 50, "SwapFree": 20},
    paging={"pgfault": 10, "pgmajfault": 4, "pswpin": 1, "pswpout": 2, "oom_kill": 3},
    disks={
        "sda": Disk(
            **dict.fromkeys(("read_bytes", "written_bytes"), 512),
            **dict.fromkeys(("reads", "writes", "merged_reads", "merged_writes"), 7),
            **dict.fromkeys(("read_ms", "write_ms", "busy_ms"), 1500),
        )
    },
    file_systems=(
        FileSystem(
            device="/dev/sda1",
            mountpoint="/srv/\udcff",
            kind="ext4",
            is_read_only=False,
            used_bytes=30,
            free_bytes=60,
            reserved_bytes=10,
        ),
    ),
    interfaces={"eth0": Interface(**dict.fromkeys(Interface.__dataclass_fields__, 9))},
    processes_running=3,
    processes_blocked=1,
    processes_created=77,
    threads_limit=1000,
    uptime_secs=160.0,
    booted_ns=BOOT,
    pressure_us={"cpu": (1_000_000, 0), "io": (2_000_000, 500_000)},
)
READING = ContainerReading(
    at_ns=5,
    cpu_ns=3_000_000_000,
    cpu_user_ns=2_000_000_000,
    cpu_system_ns=500_000_000,
    cpu_limit=0.5,
    periods=10,
    throttled_periods=2,
    throttled_ns=99,
    memory_bytes=800,
    inactive_file_bytes=300,
    rss_bytes=400,
    memory_limit_bytes=2000,
    minor_faults=6,
    major_faults=1,
    oom_kills=0,
    disks={"sda": (1, 2)},
    networks={"eth0": (3, 4)},
    pids=5,
)
IDENTITY = {
    "service_id": "svc_1",
    "service_name": "web",
    "deployment_id": "d1",
    "project": "shop",
    "container_id": "c1",
    "replica": "syn-web-d1",
    "image": "shop/web:1",
}
CONTAINER = ContainerFigures(
    identity=IDENTITY, name="syn-web-d1", started_ns=START, restarts=2, cpus_used=0.25, reading=READING
)
MESSAGE = FiguresMessage(
    time_ns=NOW,
    resource={"host.id": "h1", "host.arch": "amd64", "os.type": "linux", "os.version": ""},
    agent={"service.name": "syntra-agent"},
    host=HOST,
    containers=(CONTAINER,),
)

Points = dict[str, dict[frozenset[tuple[str, str]], Any]]


def decoded(given: FiguresMessage) -> list[ExportMetricsServiceRequest]:
    made = list(records(given, lambda identity: Identity(**identity).attributes()))
    assert {one.signal for one in made} <= {Signal.METRICS}
    requests = [ExportMetricsServiceRequest.FromString(one.data) for one in made]
    assert [one.items for one in made] == [
        sum(len(numbers(metric)) for r in q.resource_metrics for s in r.scope_metrics for metric in s.metrics)
        for q in requests
    ]
    return requests


def numbers(metric: Any) -> Any:
    return getattr(metric, metric.WhichOneof("data")).data_points


def read(resource: Any) -> tuple[dict[str, str], Points]:
    assert resource.schema_url == resource.scope_metrics[0].schema_url == SCHEMA_URL
    attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
    found: Points = {}
    for metric in resource.scope_metrics[0].metrics:
        assert metric.name not in found and metric.unit
        found[metric.name] = {
            frozenset((a.key, a.value.string_value) for a in point.attributes): getattr(
                point, point.WhichOneof("value")
            )
            for point in numbers(metric)
        }
        for point in numbers(metric):
            assert point.time_unix_nano == NOW
            is_counter = metric.HasField("sum") and metric.sum.is_monotonic
            assert point.start_time_unix_nano in ((BOOT, START) if is_counter else (0,))
        if metric.HasField("sum"):
            assert metric.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    return attributes, found


def by(**attributes: str) -> frozenset[tuple[str, str]]:
    return frozenset((name.replace("__", "."), value) for name, value in attributes.items())


def test_the_hosts_metrics_have_the_names_and_states_of_the_conventions() -> None:
    host, _ = decoded(MESSAGE)
    attributes, found = read(host.resource_metrics[0])
    assert attributes == {"service.name": "syntra-agent", "host.id": "h1", "host.arch": "amd64", "os.type": "linux"}
    assert found["system.cpu.time"] == {
        by(cpu__mode="user"): 10.5,
        by(cpu__mode="system"): 2.0,
        by(cpu__mode="idle"): 100.25,
        by(cpu__mode="interrupt"): 0.75,
    }
    assert found["system.memory.usage"] == {
        by(system__memory__state="used"): 600,
        by(system__memory__state="free"): 100,
        by(system__memory__state="cached"): 250,
    }
    assert found["system.memory.utilization"] == {frozenset(): 0.6}
    assert found["system.paging.usage"] == {
        by(system__paging__state="used"): 30,
        by(system__paging__state="free"): 20,
    }
    assert found["system.paging.faults"] == {
        by(system__paging__fault__type="major"): 4,
        by(system__paging__fault__type="minor"): 6,
    }
    assert found["system.disk.io_time"] == {by(system__device="sda"): 1.5}
    assert found["system.disk.io"][by(system__device="sda", disk__io__direction="write")] == 512
    assert sum(found["system.filesystem.usage"].values()) == 100
    assert list(found["system.filesystem.utilization"].values()) == [pytest.approx(1 / 3)]
    assert found["system.network.packet.count"][by(system__device="eth0", network__io__direction="receive")] == 9
    assert found["system.linux.pressure.stalled_time"] == {
        by(system__linux__pressure__resource="cpu", system__linux__pressure__type="some"): 1.0,
        by(system__linux__pressure__resource="io", system__linux__pressure__type="some"): 2.0,
        by(system__linux__pressure__resource="io", system__linux__pressure__type="full"): 0.5,
    }


def test_a_containers_metrics_stand_under_its_identity() -> None:
    _, containers = decoded(MESSAGE)
    attributes, found = read(containers.resource_metrics[0])
    assert attributes == {
        "service.name": "web",
        "service.namespace": "shop",
        "service.instance.id": "syn-web-d1",
        "container.id": "c1",
        "container.name": "syn-web-d1",
        "container.image.name": "shop/web:1",
        "syntra.service.id": "svc_1",
        "syntra.deployment.id": "d1",
        "syntra.project": "shop",
        "host.id": "h1",
        "host.arch": "amd64",
        "os.type": "linux",
    }
    assert {name: value for name, points in found.items() for value in points.values() if len(points) == 1} == {
        "container.uptime": 60.0,
        "container.cpu.usage": 0.25,
        "container.cpu.limit": 0.5,
        "container.cpu.throttling_data.periods": 10,
        "container.cpu.throttling_data.throttled_periods": 2,
        "container.cpu.throttling_data.throttled_time": 99,
        "container.memory.usage": 800,
        "container.memory.available": 1500,
        "container.memory.rss": 400,
        "container.memory.working_set": 500,
        "container.memory.usage.limit": 2000,
        "container.memory.oom_kills": 0,
        "container.pids.count": 5,
        "container.restarts": 2,
    }
    assert found["container.cpu.time"] == {by(cpu__mode="user"): 2.0, by(cpu__mode="system"): 0.5}
    assert found["container.network.io"][by(network__interface__name="eth0", network__io__direction="transmit")] == 4


def test_what_is_not_known_is_left_out() -> None:
    bare = replace(CONTAINER, cpus_used=None, reading=ContainerReading(at_ns=1, cpu_ns=2_000_000_000))
    [containers] = decoded(replace(MESSAGE, host=None, containers=(bare,)))
    _, found = read(containers.resource_metrics[0])
    assert found.keys() == {
        *("container.uptime", "container.cpu.time", "container.memory.usage", "container.memory.working_set"),
        *("container.pids.count", "container.restarts"),
    }
    assert found["container.cpu.time"] == {frozenset(): 2.0}


def test_many_containers_are_split_and_none_are_nothing() -> None:
    many = replace(MESSAGE, host=None, containers=(CONTAINER,) * (2 * CONTAINERS_IN_ONE + 1))
    assert [len(one.resource_metrics) for one in decoded(many)] == [CONTAINERS_IN_ONE, CONTAINERS_IN_ONE, 1]
    assert decoded(replace(MESSAGE, host=None, containers=())) == []


def test_a_message_comes_back_as_it_was_told() -> None:
    told = json.loads(json.dumps(message_fields(MESSAGE)))
    parsed = parse_message(told)
    assert [one.SerializeToString() for one in decoded(parsed)] == [one.SerializeToString() for one in decoded(MESSAGE)]


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63), 0.0, 1.5, float("inf"), 1e300])
@pytest.mark.parametrize("length", [0, 1, 100, 127, 128, 20_000, 3_000_000])
def test_numbers_and_texts_of_every_size_are_encoded(value: float, length: int) -> None:
    metrics = ResourceMetrics({"a": "x" * length}, start_ns=1, time_ns=2)
    metrics.one(counter("c", "1"), value)
    metrics.add(gauge("g", "1"), [((("k", "y" * length),), value)])
    [resource] = ExportMetricsServiceRequest.FromString(metrics.encoded()).resource_metrics
    counted, level = resource.scope_metrics[0].metrics
    [point] = counted.sum.data_points
    assert (point.as_int if isinstance(value, int) else point.as_double) == value
    assert level.gauge.data_points[0].attributes[0].value.string_value == "y" * length
    assert [one.value.string_value for one in resource.resource.attributes] == (["x" * length] if length else [])


def test_a_field_has_the_form_that_protobuf_reads() -> None:
    assert message(1, b"ab") == b"\x0a\x02ab"
    assert message(2, b"x" * 300)[:3] == b"\x12\xac\x02"
