"""Items leave in frames that the connection takes, none lost, in the contract's shape and in the hub's."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from itertools import count
from typing import Any

import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.connection import codec
from syntra.telemetry.shipping import contract, hub
from syntra.telemetry.shipping.contract_batches import LISTS, Payload, batches
from syntra.telemetry.shipping.frame_limits import Limits, Oversized
from syntra.telemetry.signals import Signal
from tests.telemetry.otlp.sdk_samples import BY_NAME

AGENT = "agt_1"
LOG = {
    "timestamp": "2026-01-02T03:04:05.000000000Z",
    "service_id": "svc_1",
    "deployment_id": "dep_1",
    "level": "warn",
    "message": "stock low",
    "attributes": {"left": 2},
    "source": "sdk",
    "trace_id": "ab" * 16,
}
ERROR = {
    "timestamp": "2026-01-02T03:04:05.000000000Z",
    "service_id": "svc_1",
    "deployment_id": "dep_1",
    "type": "TypeError",
    "message": "gone",
}


def ids() -> Any:
    return (f"bat_{n}" for n in count()).__next__


def frame(payload: Mapping[str, Any]) -> str:
    message = codec.Envelope(
        id="5f0f2a9e-0000-4000-8000-000000000001",
        type="telemetry_batch",
        timestamp="2026-01-02T03:04:05.678Z",
        payload=payload,
    )
    return codec.encode(message)


def unpacked(payload: Mapping[str, Any]) -> Any:
    data = payload["data"]
    if payload["compression"] == "none":
        return data
    return json.loads(zstandard.ZstdDecompressor().decompress(base64.b64decode(data)))


def test_one_batch_has_every_list() -> None:
    traces = contract.items(Signal.TRACES, BY_NAME["otel-python-protobuf.traces"].body)
    for compress in (None, zstandard.ZstdCompressor().compress):
        (only,) = batches({"traces": traces, "logs": [LOG]}, agent_id=AGENT, new_id=ids(), compress=compress)
        assert isinstance(only, Payload)
        assert only.items == len(traces) + 1
        assert (only.payload["batch_id"], only.payload["agent_id"]) == ("bat_0", AGENT)
        assert only.payload["compression"] == ("zstd" if compress else "none")
        assert unpacked(only.payload) == {
            "errors": [],
            "traces": traces,
            "logs": [LOG],
            "metrics": [],
            "health_checks": [],
        }
        assert codec.decode(frame(only.payload)).payload == only.payload


def test_nothing_is_no_batch() -> None:
    assert list(batches({"logs": []}, agent_id=AGENT, new_id=ids())) == []


ITEMS = st.lists(
    st.fixed_dictionaries({
        "message": st.text(max_size=30) | st.integers(0, 3000).map("é,{".__mul__),
        "n": st.lists(st.integers(0, 1 << 63), max_size=30),
    }),
    max_size=8,
)  # fmt: skip


@given(
    data=st.fixed_dictionaries(dict.fromkeys(LISTS, ITEMS)),
    compress=st.sampled_from([None, zstandard.ZstdCompressor().compress, lambda raw: b"\0" * (len(raw) + 100)]),
    max_bytes=st.integers(5_000, 20_000),
    max_values=st.integers(100, 2000),
)
@settings(max_examples=60, deadline=None)
def test_every_frame_fits_and_no_item_is_lost(data: Any, compress: Any, max_bytes: int, max_values: int) -> None:
    limits = Limits(max_bytes=max_bytes, max_values=max_values)
    made = list(batches(data, agent_id=AGENT, new_id=ids(), compress=compress, limits=limits))
    payloads = [one for one in made if isinstance(one, Payload)]
    dropped = [one for one in made if isinstance(one, Oversized)]
    assert sum(one.items for one in payloads) + len(dropped) == sum(map(len, data.values()))
    for one in payloads:
        text = frame(one.payload)
        assert len(text) <= max_bytes
        assert codec.count_values(text, max_values) <= max_values
        codec.decode(text, max_bytes=max_bytes, max_values=max_values)
    if compress is None or compress(b"") != b"\0" * 100:
        contents = [unpacked(one.payload) for one in payloads]
        assert all(len(json.dumps(content).encode()) and list(content) == list(LISTS) for content in contents)
        for name in LISTS:
            sent = [item for content in contents for item in content[name]]
            lost = [one for one in dropped if one.name == name]
            assert len(sent) + len(lost) == len(data[name])
            assert sent == [item for item in data[name] if item in sent]


def test_an_item_larger_than_a_frame_is_dropped_alone() -> None:
    huge = LOG | {"message": "x" * 20_000_000}
    made = list(batches({"logs": [LOG, huge, LOG]}, agent_id=AGENT, new_id=ids()))
    assert [one.items for one in made if isinstance(one, Payload)] == [2]
    assert [one.name for one in made if isinstance(one, Oversized)] == ["logs"]


def hub_payloads(**changes: Any) -> list[Any]:
    arguments: dict[str, Any] = {
        "logs": [LOG],
        "errors": [ERROR],
        "server": {"cpu_percent": 5.0},
        "containers": [{"container_id": "c1"}],
        "server_id": "srv_1",
        "agent_id": AGENT,
        "container_ids": {"svc_1": "c1"},
        "new_id": ids(),
    }
    return list(hub.payloads(**(arguments | changes)))


def test_the_hub_reads_metrics_logs_and_events_from_the_payload() -> None:
    (only,) = hub_payloads()
    assert only.payload == {
        "batch_id": "bat_0",
        "agent_id": AGENT,
        "compression": "none",
        "metrics": {"server": {"cpu_percent": 5.0}, "containers": [{"container_id": "c1"}]},
        "logs": [
            {
                "timestamp": "2026-01-02T03:04:05.000000000Z",
                "level": "warn",
                "message": "stock low",
                "source": "container",
                "server_id": "srv_1",
                "container_id": "c1",
                "service_id": "svc_1",
                "fields": {"left": 2, "trace_id": "ab" * 16},
            }
        ],
        "events": [
            {
                "timestamp": "2026-01-02T03:04:05.000000000Z",
                "type": "error",
                "server_id": "srv_1",
                "message": "TypeError: gone",
                "severity": "error",
                "service_id": "svc_1",
                "container_id": "c1",
                "deployment_id": "dep_1",
            }
        ],
    }


def test_the_hub_gets_the_figures_once_and_every_log() -> None:
    made = hub_payloads(logs=[LOG] * 300, limits=Limits(max_bytes=20_000, max_values=2000))
    assert len(made) > 2
    assert ["metrics" in one.payload for one in made] == [True] + [False] * (len(made) - 1)
    assert sum(one.items for one in made) == 301
    assert all(len(frame(one.payload)) <= 20_000 for one in made)


def test_figures_alone_are_a_payload_and_nothing_is_none() -> None:
    (only,) = hub_payloads(logs=[], errors=[], containers=[])
    assert (only.payload["metrics"], only.payload["logs"], only.items) == ({"server": {"cpu_percent": 5.0}}, [], 0)
    assert hub_payloads(logs=[], errors=[], containers=[], server=None) == []


def test_the_log_records_of_an_sdk_for_the_hub() -> None:
    body = BY_NAME["otel-python-protobuf.logs"].body
    (only,) = hub_payloads(logs=contract.items(Signal.LOGS, body), container_ids={})
    assert {(one["service_id"], one["source"]) for one in only.payload["logs"]} == {("shop", "container")}
