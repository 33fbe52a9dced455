"""Batches of the ring through the agent's own sender, a real connection, the control plane, and out of its API."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from syntra.connection.codec import Envelope
from syntra.connection.messages import TelemetryAck
from syntra.model.fields import Json
from syntra.telemetry.process.control_plane import ControlPlane
from syntra.telemetry.shipping.destination import Part
from syntra.telemetry.signals import Signal
from tests.connection.rig import Agent, get
from tests.controlplane.harness import hello, running
from tests.controlplane.telemetry.samples import EXTENSIONS, logs, traces


def random_traces(count: int, first: int) -> bytes:
    """Spans that compression makes little smaller: a batch of them needs several frames."""
    request = ExportTraceServiceRequest.FromString(traces(count, first=first))
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.attributes.add(key="noise").value.bytes_value = os.urandom(1000)
    return request.SerializeToString()


BATCHES = {
    "one block": (Signal.TRACES, 3, [traces(3)]),
    "blocks in one frame": (Signal.LOGS, 30, [logs(10, first=number * 10) for number in range(3)]),
    "several frames": (Signal.TRACES, 1200, [random_traces(300, number * 300) for number in range(4)]),
    "one block larger than a frame should be": (Signal.TRACES, 1200, [random_traces(1200, 0)]),
    "errors": (Signal.ERRORS, 2, [b'{"id":"1","service_id":"api"}\n', b'{"id":"2","service_id":"api"}\n']),
}


@pytest.mark.parametrize("extensions", [EXTENSIONS, ["binary_telemetry"], ["telemetry_ack"], []], ids=str)
@pytest.mark.parametrize("name", BATCHES)
async def test_every_item_of_a_batch_arrives_once_in_every_form(
    tmp_path: Path, name: str, extensions: list[str]
) -> None:
    signal, items, blocks = BATCHES[name]
    batch = Part(
        signal=signal,
        blocks=tuple(zstandard.compress(block) for block in blocks),
        items=items,
        raw_bytes=sum(map(len, blocks)),
    )

    async def introduce() -> Mapping[str, Any]:
        return hello(capabilities=extensions)

    async def forward(kind: str, fields: Mapping[str, Json], body: bytes) -> None:
        """What the agent does with a frame of the telemetry process."""
        if fields["is_binary"]:
            await agent.transport.send_stream_binary(body)
        else:
            payload = json.loads(body)
            await agent.transport.send_stream(Envelope(id="1", type="telemetry_batch", timestamp="", payload=payload))
        destination.sent({"batch_id": fields["batch_id"], "error": ""})

    def acknowledged(ack: TelemetryAck) -> None:
        destination.acknowledged({"batch_id": ack.batch_id, "accepted": ack.accepted, "error": ack.error})

    destination = ControlPlane("agt_1", "srv_1", forward)
    async with running(tmp_path) as plane:
        url = f"ws://127.0.0.1:{plane.port}/agent/ws"
        agent = Agent(url, token=await plane.token(), hello=introduce, on_telemetry_ack=acknowledged)
        async with agent.running():
            features = (await get(agent.ready)).features
            destination.update(
                {
                    "is_connected": True,
                    "is_binary": "binary_telemetry" in features,
                    "has_ack": "telemetry_ack" in features,
                    "is_hub": False,
                    "interval_secs": 5.0,
                }
            )
            for _ in range(2):
                # The second time as after a connection that broke before the answer.
                assert (await destination.send(batch)).taken == items
            async with asyncio.timeout(30):
                while len(await plane.call(plane.client.all_telemetry, signal.value)) < items:
                    await asyncio.sleep(0.01)
        found = await plane.call(plane.client.all_telemetry, signal.value)
        assert len(found) == items
        assert {item["service_id"] for item in found} == {"api"}
        assert (await plane.call(plane.client.server, "srv_1"))["ignored_messages"] == 0
