"""OTLP requests in parts: protobuf's own decoder is the judge, and hostile requests cost little."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from syntra.controlplane.telemetry import otlp_index
from syntra.controlplane.telemetry.blocks import ANY_SERVICE, MOST_SERVICES, Kind
from syntra.controlplane.telemetry.otlp_parts import MOST_ITEM_BYTES, groups, parts
from syntra.model.errors import InvalidField
from syntra.telemetry.shipping import contract
from syntra.telemetry.signals import Signal
from tests.controlplane.telemetry.samples import SECOND, START, logs, metrics, traces

NOW = START + 3600 * SECOND

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 3))):
        resource_spans = request.resource_spans.add(schema_url=draw(st.text(max_size=3)))
        for key in draw(st.lists(st.sampled_from(["service.name", "other"]), max_size=2)):
            resource_spans.resource.attributes.add(key=key).value.string_value = draw(st.text(max_size=3))
        for _ in range(draw(st.integers(0, 2))):
            scope_spans = resource_spans.scope_spans.add()
            scope_spans.scope.name = draw(st.text(max_size=200))
            for _ in range(draw(st.integers(0, 300))):
                scope_spans.spans.add(name="s", start_time_unix_nano=draw(st.integers(0, 2**64 - 1)))
    return request


@patient
@given(requests())
def test_the_groups_of_a_request_have_its_items_in_order_and_small_pieces(request: ExportTraceServiceRequest) -> None:
    encoded = request.SerializeToString()
    found: list[tuple[str, str, Span]] = []
    for part in parts(encoded):
        for group in groups(part):
            decoded = ExportTraceServiceRequest.FromString(group)
            [resource_spans] = decoded.resource_spans
            [scope_spans] = resource_spans.scope_spans
            assert 1 <= len(scope_spans.spans) <= 256
            found += [(str(resource_spans.resource), scope_spans.scope.name, span) for span in scope_spans.spans]
    assert found == [
        (str(resource_spans.resource), scope_spans.scope.name, span)
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]
    assert otlp_index.index(Kind.TRACES, encoded, NOW).items == len(found)


@pytest.mark.parametrize(
    ("kind", "request_"), [(Kind.TRACES, traces(3)), (Kind.LOGS, logs(3)), (Kind.METRICS, metrics(1, 2, 3))]
)
def test_a_request_cut_at_any_place_is_refused_or_whole_up_to_there(kind: Kind, request_: bytes) -> None:
    assert otlp_index.index(kind, request_, NOW).items == 3
    for length in range(1, len(request_)):
        with pytest.raises(InvalidField):
            otlp_index.index(kind, request_[:length], NOW)


@patient
@given(st.binary(max_size=300), st.sampled_from([Kind.TRACES, Kind.LOGS, Kind.METRICS]))
def test_other_data_never_raises_anything_else(data: bytes, kind: Kind) -> None:
    try:
        contents = otlp_index.index(kind, data, NOW)
    except InvalidField:
        return
    assert sum(len(part.items) for part in parts(data)) <= contents.items or kind is Kind.METRICS
    for part in parts(data):
        for group in groups(part):
            contract.items(Signal(kind.value), group)


def test_requests_one_behind_the_other_are_one() -> None:
    contents = otlp_index.index(Kind.TRACES, traces(2, service="a") + traces(3, service="b", first=10), NOW)
    assert contents.items == 5
    assert contents.services == {"a", "b"}
    assert (contents.oldest_ns, contents.newest_ns) == (START, START + 12 * SECOND)


def test_items_are_found_under_the_id_of_their_service_and_its_name() -> None:
    request = traces(service="api", service_id="svc_1")
    assert otlp_index.index(Kind.TRACES, request, NOW).services == {"api", "svc_1"}
    [item] = contract.items(Signal.TRACES, request)
    assert item["service_id"] == "svc_1"


@pytest.mark.parametrize("names", [[f"service {number}" for number in range(MOST_SERVICES + 1)], ["x" * 300]])
def test_too_many_or_too_long_names_count_as_any_service(names: list[str]) -> None:
    request = b"".join(traces(service=name) for name in names)
    assert otlp_index.index(Kind.TRACES, request, NOW).services == {ANY_SERVICE}


def test_an_item_without_a_time_is_one_of_the_time_of_its_arrival() -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for start in (0, NOW + 5 * SECOND, NOW + SECOND, 2**64 - 1):
        spans.add(start_time_unix_nano=start)
    contents = otlp_index.index(Kind.TRACES, request.SerializeToString(), NOW)
    assert (contents.oldest_ns, contents.newest_ns) == (NOW, 2**63 - 1)


def _field(tag: int, value: bytes) -> bytes:
    head = bytearray((tag,))
    left = len(value)
    while left > 127:
        head.append(left & 127 | 128)
        left >>= 7
    return bytes(head + bytes((left,))) + value


@pytest.mark.parametrize(
    "request_",
    [
        b"\x0a\x00" * 2_000_000,
        _field(0x0A, b"\x12\x00" * 2_000_000),
        _field(0x0A, _field(0x12, b"\x12\x00" * 2_000_000)),
        # Unknown fields, which cost time.
        b"\x78\x00" * 2_000_000,
        _field(0x0A, _field(0x12, b"\x78\x00" * 2_000_000)),
    ],
    ids=["resources", "scopes", "spans", "unknown fields", "unknown fields of a scope"],
)
def test_millions_of_empty_messages_cost_little(request_: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(InvalidField, match="more than 100000 resources, scopes and items"):
        otlp_index.index(Kind.TRACES, request_, NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


def test_a_metric_of_too_many_points_is_refused() -> None:
    metric = Metric()
    for _ in range(60_000):
        metric.gauge.data_points.add()
    request = _field(0x0A, _field(0x12, _field(0x12, metric.SerializeToString()) * 2))
    with pytest.raises(InvalidField, match="more than 100000 items"):
        otlp_index.index(Kind.METRICS, request, NOW)


def test_a_huge_item_is_counted_and_its_neighbours_are_found() -> None:
    huge = Span(name="huge", attributes=[KeyValue(key="x" * MOST_ITEM_BYTES)]).SerializeToString()
    small = Span(name="small").SerializeToString()
    request = _field(0x0A, _field(0x12, _field(0x12, huge) + _field(0x12, small)))
    assert otlp_index.index(Kind.TRACES, request, NOW).items == 2
    [part] = parts(request)
    [group] = groups(part)
    assert [item["operation_name"] for item in contract.items(Signal.TRACES, group)] == ["small"]


@pytest.mark.parametrize("tag", [0x0A, 0x12])
def test_a_resource_in_many_pieces_is_merged_up_to_its_limit(tag: int) -> None:
    piece = _field(0x0A, bytes(1000))
    inner = piece * 300
    request = _field(0x0A, inner if tag == 0x0A else _field(0x12, inner))
    with pytest.raises(InvalidField, match="a resource or scope of more than 262144 bytes"):
        list(parts(request))
