"""The control plane as a destination, with the agent's end of the link in the test's hands."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zstandard

from syntra.model.fields import Json
from syntra.telemetry.process.control_plane import ANSWER_SECS, FRAME_BYTES, ControlPlane
from syntra.telemetry.shipping.destination import Batch, Part, Sent
from syntra.telemetry.signals import Signal
from syntra.telemetry.wire import telemetry_pb2 as wire
from tests.telemetry.shipping.samples import SAMPLES, batch, logs, traces

pytestmark = pytest.mark.virtual_time

BINARY = {"is_binary": True, "has_ack": True}
JSON = {"is_binary": False, "has_ack": True}
ERRORS = Part(
    signal=Signal.ERRORS,
    blocks=(zstandard.compress(b'{"type":"E","message":"gone","service_id":"svc_1"}\n'),),
    items=1,
    raw_bytes=51,
)


class Agent:
    """Takes what the process sends, and says what became of it."""

    def __init__(self) -> None:
        self.plane = ControlPlane("agt_1", "srv_1", self._send)
        self.frames: asyncio.Queue[tuple[Mapping[str, Any], bytes]] = asyncio.Queue()
        self.is_gone = False

    async def _send(self, kind: str, fields: Mapping[str, Json], body: bytes) -> None:
        assert kind == "batch"
        if self.is_gone:
            raise BrokenPipeError
        self.frames.put_nowait((fields, body))

    def connect(self, **features: Any) -> None:
        told = {"is_connected": True, "is_binary": False, "has_ack": False, "is_hub": False, "interval_secs": 5.0}
        self.plane.update(told | features)

    def disconnect(self) -> None:
        self.plane.update({"is_connected": False, "is_binary": False, "has_ack": False, "is_hub": False})

    def sent(self, batch_id: object, error: str = "") -> None:
        self.plane.sent({"batch_id": batch_id, "error": error})

    def acknowledge(self, batch_id: object, *, accepted: bool = True, error: str = "") -> None:
        self.plane.acknowledged({"batch_id": batch_id, "accepted": accepted, "error": error})

    async def take_all(self) -> None:
        """Send and acknowledge whatever comes."""
        while True:
            fields, _ = await self.frames.get()
            self.sent(fields["batch_id"])
            self.acknowledge(fields["batch_id"])


@asynccontextmanager
async def sending(agent: Agent, *batches: Batch) -> AsyncIterator[list[asyncio.Task[Sent]]]:
    """Batches on their way; they must be answered before the end."""
    async with asyncio.TaskGroup() as group:
        yield [group.create_task(agent.plane.send(one)) for one in batches]


async def shipped(one: Batch, **features: Any) -> tuple[Sent, list[bytes]]:
    """What came of a batch that is taken, and the frames that carried it."""
    agent = Agent()
    agent.connect(**features)
    frames: list[bytes] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(agent.plane.send(one))
        while not task.done():
            next_frame = group.create_task(agent.frames.get())
            await asyncio.wait((task, next_frame), return_when=asyncio.FIRST_COMPLETED)
            if next_frame.done():
                fields, body = next_frame.result()
                frames.append(body)
                agent.sent(fields["batch_id"])
                agent.acknowledge(fields["batch_id"])
            else:
                next_frame.cancel()
    return task.result(), frames


async def test_with_acknowledgements_a_batch_is_done_when_the_control_plane_says_so() -> None:
    agent, one = Agent(), SAMPLES[Signal.TRACES]
    agent.connect(**BINARY)
    async with sending(agent, one) as [task]:
        fields, body = await agent.frames.get()
        agent.sent(fields["batch_id"])
        await asyncio.sleep(1)
        assert not task.done()
        agent.acknowledge("bat_of_someone_else")
        agent.acknowledge(fields["batch_id"])
        # Twice is once.
        agent.acknowledge(fields["batch_id"], accepted=False)
    assert task.result() == Sent(taken=3, wire_bytes=len(body))
    frame = wire.TelemetryFrame.FromString(body)
    assert fields == {"batch_id": frame.batch_id, "is_binary": True}
    assert (frame.agent_id, frame.signal, frame.items) == ("agt_1", wire.SIGNAL_TRACES, 3)
    # The ring's blocks, untouched.
    assert frame.compression == wire.COMPRESSION_ZSTD and frame.data == b"".join(one.blocks)


async def test_without_acknowledgements_a_batch_is_done_when_the_connection_has_it() -> None:
    agent, one = Agent(), SAMPLES[Signal.LOGS]
    agent.connect(is_binary=True, has_ack=False)
    async with sending(agent, one) as [task]:
        fields, _ = await agent.frames.get()
        await asyncio.sleep(1)
        assert not task.done()
        agent.sent(fields["batch_id"])
    assert task.result().taken == one.items


@pytest.mark.parametrize("signal", list(SAMPLES))
async def test_every_signal_has_its_frame(signal: Signal) -> None:
    sent, frames = await shipped(SAMPLES[signal], **BINARY)
    assert sent.taken == SAMPLES[signal].items
    [frame] = [wire.TelemetryFrame.FromString(one) for one in frames]
    assert wire.Signal.Name(frame.signal) == f"SIGNAL_{signal.name}"


async def test_a_batch_waits_for_the_connection_but_not_for_ever() -> None:
    agent, one = Agent(), SAMPLES[Signal.TRACES]
    assert not agent.plane.is_connected
    sent = await agent.plane.send(one)
    assert sent.taken == 0 and sent.retry is not None and sent.retry.rest is one
    assert sent.reason == "the agent is not connected to it"
    async with sending(agent, one) as [task]:
        await asyncio.sleep(1)
        agent.connect(**BINARY)
        fields, _ = await agent.frames.get()
        agent.acknowledge(fields["batch_id"])
    assert task.result().taken == 3


async def test_a_connection_that_is_lost_ends_the_wait_of_its_batches() -> None:
    agent = Agent()
    agent.connect(**BINARY)
    one, other = SAMPLES[Signal.TRACES], SAMPLES[Signal.LOGS]
    async with sending(agent, one, other) as tasks:
        for _ in tasks:
            fields, _ = await agent.frames.get()
            agent.sent(fields["batch_id"])
        agent.disconnect()
    for task in tasks:
        assert task.result().reason == "the connection was lost"
        assert task.result().retry is not None
    assert not agent.plane.is_connected


@pytest.mark.parametrize("has_ack", [True, False])
async def test_a_frame_that_was_not_sent_is_sent_again(has_ack: bool) -> None:
    agent = Agent()
    agent.connect(is_binary=True, has_ack=has_ack)
    async with sending(agent, SAMPLES[Signal.TRACES]) as [task]:
        fields, _ = await agent.frames.get()
        agent.sent(fields["batch_id"], "the socket is full")
    assert task.result().reason == "the socket is full"
    assert task.result().retry is not None


async def test_without_an_answer_the_batch_is_sent_again() -> None:
    agent = Agent()
    agent.connect(**BINARY)
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = await agent.plane.send(SAMPLES[Signal.TRACES])
    assert sent.retry is not None and sent.reason == "no acknowledgement within 40 s"
    assert loop.time() - began == pytest.approx(ANSWER_SECS)
    # An answer that comes too late meets nothing.
    fields, _ = await agent.frames.get()
    agent.acknowledge(fields["batch_id"])


async def test_an_agent_that_is_gone_is_a_reason_to_wait() -> None:
    agent = Agent()
    agent.connect(**BINARY)
    agent.is_gone = True
    sent = await agent.plane.send(SAMPLES[Signal.TRACES])
    assert sent.retry is not None and sent.reason == "the agent is gone"


@pytest.mark.parametrize("error", ["too old", ""])
async def test_a_refused_batch_is_not_sent_again(error: str) -> None:
    agent = Agent()
    agent.connect(**BINARY)
    async with sending(agent, SAMPLES[Signal.TRACES]) as [task]:
        fields, _ = await agent.frames.get()
        agent.acknowledge(fields["batch_id"], accepted=False, error=error)
    assert (task.result().refused, task.result().retry) == (3, None)
    assert task.result().reason == (error or "refused without a reason")


async def test_what_no_frame_can_hold_is_refused_by_the_agent() -> None:
    agent = Agent()
    agent.connect(**BINARY)
    async with sending(agent, SAMPLES[Signal.TRACES]) as [task]:
        fields, _ = await agent.frames.get()
        agent.sent(fields["batch_id"], "refused: cannot send a message: it is larger than 1 MB")
    assert (task.result().refused, task.result().retry) == (3, None)


async def test_equal_batches_at_the_same_time_have_one_id_and_each_its_answer() -> None:
    agent, one = Agent(), SAMPLES[Signal.TRACES]
    agent.connect(**BINARY)
    async with sending(agent, one, one) as tasks:
        first, _ = await agent.frames.get()
        second, _ = await agent.frames.get()
        assert first["batch_id"] == second["batch_id"]
        agent.acknowledge(first["batch_id"])
    assert [task.result().taken for task in tasks] == [3, 3]


async def test_an_id_is_made_from_the_content() -> None:
    async def ids(one: Batch, **features: Any) -> list[str]:
        _, frames = await shipped(one, **features)
        if features["is_binary"]:
            return [wire.TelemetryFrame.FromString(frame).batch_id for frame in frames]
        return [json.loads(frame)["batch_id"] for frame in frames]

    for features in (BINARY, JSON):
        first = await ids(SAMPLES[Signal.TRACES], **features)
        assert first == await ids(SAMPLES[Signal.TRACES], **features)
        assert first != await ids(SAMPLES[Signal.LOGS], **features)
        # Equal bytes of another signal are something else.
        same = Part(signal=Signal.METRICS, blocks=SAMPLES[Signal.TRACES].blocks, items=3, raw_bytes=9)
        if features is BINARY:
            assert first != await ids(same, **features)


async def test_a_batch_that_is_too_large_for_a_frame_is_split_by_blocks() -> None:
    small = [os.urandom(FRAME_BYTES // 3) for _ in range(7)]
    blocks = (*small, os.urandom(FRAME_BYTES + 10), b"last")
    one = Part(signal=Signal.LOGS, blocks=blocks, items=90, raw_bytes=1)
    sent, frames = await shipped(one, **BINARY)
    data = [wire.TelemetryFrame.FromString(frame).data for frame in frames]
    assert b"".join(data) == b"".join(blocks)
    assert sent.taken == 90 and sent.wire_bytes == sum(map(len, frames))
    assert [len(each) <= FRAME_BYTES for each in data] == [True, True, True, False, True]
    assert {wire.TelemetryFrame.FromString(frame).items for frame in frames} == {0}


async def test_the_rest_of_a_batch_is_sent_again_with_the_same_ids() -> None:
    blocks = tuple(os.urandom(FRAME_BYTES) for _ in range(3))
    one = Part(signal=Signal.LOGS, blocks=blocks, items=3, raw_bytes=1)
    agent = Agent()
    agent.connect(**BINARY)
    async with sending(agent, one) as [task]:
        first, _ = await agent.frames.get()
        agent.acknowledge(first["batch_id"])
        second, _ = await agent.frames.get()
        agent.sent(second["batch_id"], "the connection is gone")
    retry = task.result().retry
    assert retry is not None and retry.rest is one
    assert agent.frames.empty()
    async with sending(agent, one):
        again = []
        for _ in blocks:
            fields, _ = await agent.frames.get()
            again.append(fields["batch_id"])
            agent.acknowledge(fields["batch_id"])
    assert again[:2] == [first["batch_id"], second["batch_id"]]


async def test_others_get_telemetry_batch_of_the_contract() -> None:
    sent, frames = await shipped(SAMPLES[Signal.TRACES], **JSON)
    assert sent.taken == 3 and sent.wire_bytes == sum(map(len, frames))
    [payload] = [json.loads(frame) for frame in frames]
    assert payload["agent_id"] == "agt_1" and payload["compression"] == "zstd"
    data = json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(base64.b64decode(payload["data"])))
    assert [span["operation_name"] for span in data["traces"]] == ["a", "b", "c"]
    assert data["logs"] == data["metrics"] == data["errors"] == data["health_checks"] == []


@pytest.mark.parametrize("signal", [Signal.METRICS, Signal.LOGS])
async def test_the_contract_has_a_list_for_each(signal: Signal) -> None:
    _, [frame] = await shipped(SAMPLES[signal], **JSON)
    packed = base64.b64decode(json.loads(frame)["data"])
    data = json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(packed))
    assert data[signal.value]


async def test_the_hub_gets_logs_and_events_in_its_own_shape() -> None:
    _, [frame] = await shipped(SAMPLES[Signal.LOGS], is_hub=True, has_ack=False)
    payload = json.loads(frame)
    assert [row["message"] for row in payload["logs"]] == ["one", "two", "three"]
    assert {row["server_id"] for row in payload["logs"]} == {"srv_1"}
    sent, [frame] = await shipped(ERRORS, is_hub=True, has_ack=False)
    assert sent.taken == 1
    assert [row["message"] for row in json.loads(frame)["events"]] == ["E: gone"]


@pytest.mark.parametrize(
    ("signal", "features"),
    [
        (Signal.PROFILES, {"is_hub": False}),
        (Signal.PROFILES, {"is_hub": True}),
        (Signal.TRACES, {"is_hub": True}),
        (Signal.METRICS, {"is_hub": True}),
    ],
)
async def test_what_has_no_place_is_dropped_and_does_not_count_as_shipped(
    signal: Signal, features: Mapping[str, bool]
) -> None:
    one = SAMPLES[signal]
    sent, frames = await shipped(one, **features)
    assert frames == []
    assert sent == Sent(unwanted=one.items)


async def test_items_that_fit_into_no_frame_are_counted_and_the_others_sent() -> None:
    many_values = "," * 200_001
    one = batch(Signal.TRACES, [traces("small", service="s"), traces(many_values)], 2)
    sent, frames = await shipped(one, **JSON)
    assert (sent.taken, sent.rejected, sent.retry) == (1, 1, None)
    assert sent.reason == "1 of 2 items are too large for a frame"
    assert len(frames) == 1


async def test_the_language_is_that_of_the_present_connection() -> None:
    agent, one = Agent(), batch(Signal.LOGS, [logs("x")], 1)
    for features, is_binary in ((JSON, False), (BINARY, True)):
        agent.disconnect()
        agent.connect(**features)
        async with sending(agent, one):
            fields, _ = await agent.frames.get()
            agent.acknowledge(fields["batch_id"])
        assert fields["is_binary"] is is_binary


def test_the_control_plane_s_interval() -> None:
    agent = Agent()
    assert agent.plane.interval_secs is None
    agent.connect(interval_secs=2.5)
    assert agent.plane.interval_secs == 2.5


async def test_at_the_end_no_connection_is_waited_for() -> None:
    agent, one = Agent(), SAMPLES[Signal.TRACES]
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with sending(agent, one) as [task]:
        await asyncio.sleep(1)
        agent.plane.finish()
    assert task.result().retry is not None
    assert (await agent.plane.send(one)).retry is not None
    agent.disconnect()
    assert (await agent.plane.send(one)).retry is not None
    assert loop.time() - began < 2
    agent.connect(**BINARY)
    async with sending(agent, one) as [task]:
        fields, _ = await agent.frames.get()
        agent.acknowledge(fields["batch_id"])
    assert task.result().taken == 3
