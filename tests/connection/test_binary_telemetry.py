"""Telemetry as binary frames, and its acknowledgements: only where agreed, never in the way of anything else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from syntra.connection.effects import Acknowledged, Deliver, Ignored
from syntra.connection.errors import NotConnected, UnencodableMessage
from syntra.connection.messages import BINARY_TELEMETRY, TELEMETRY_ACK, TelemetryAck, parse_telemetry_ack
from syntra.connection.writer import Writer
from tests.connection.halves import ControlPlane as PureControlPlane
from tests.connection.halves import Pair, make_session
from tests.connection.halves import frame as pure_frame
from tests.connection.rig import (
    ControlPlane,
    MemoryOutbox,
    acknowledge,
    connected,
    frame,
    get,
    linked,
    polite,
    result,
    wait,
)
from tests.connection.test_writer import Wire, writing

AGREED = {"accepted": True, "config": {"features": [BINARY_TELEMETRY, TELEMETRY_ACK, "of the future"]}}


def begun(*, agreed: bool = True) -> tuple[MemoryOutbox, Wire, Writer]:
    outbox, wire = MemoryOutbox(), Wire()
    writer = Writer(outbox, max_frame_bytes=1000, stream_limit=4)
    writer.ready(takes_binary=agreed)
    return outbox, wire, writer


# What leaves


async def test_a_binary_frame_needs_an_agreement_and_a_size_that_the_peer_accepts() -> None:
    _, wire, writer = begun(agreed=False)
    async with writing(writer, wire):
        with pytest.raises(NotConnected, match="does not take binary frames"):
            await writer.stream(b"telemetry")
        await writer.stream("text")
        # The next connection agrees.
        writer.end("over")
        writer.begin()
        writer.ready(takes_binary=True)
        await writer.stream(b"x" * 1000)
        with pytest.raises(UnencodableMessage, match="larger than 1000 bytes"):
            await writer.stream(b"x" * 1001)
    assert wire.sent == ["text", b"x" * 1000]


async def test_a_connection_inherits_no_agreement() -> None:
    _, wire, writer = begun()
    writer.end("over")
    writer.begin()
    writer.ready()
    async with writing(writer, wire):
        with pytest.raises(NotConnected, match="does not take binary frames"):
            await writer.stream(b"telemetry")


async def test_a_binary_frame_waits_until_the_previous_one_was_read_and_nothing_else_waits_for_it() -> None:
    outbox, wire, writer = begun()
    wire.deaf = True
    async with asyncio.TaskGroup() as group, writing(writer, wire):
        await writer.stream(b"first")
        second = group.create_task(writer.stream(b"second"), name="second")
        await asyncio.sleep(0)
        await writer.stream("lines")
        writer.heartbeat("heartbeat")
        outbox.add("result")
        assert set(await wire.until(4)) == {b"first", "lines", "heartbeat", "result"}
        for _ in range(20):
            await asyncio.sleep(0)
        assert not second.done()
        await wire.hear()
        await second
    assert wire.sent[-1] == b"second"


async def test_a_cancelled_binary_frame_behind_an_unread_one_leaves_no_trace() -> None:
    _, wire, writer = begun()
    wire.deaf = True
    async with asyncio.TaskGroup() as group, writing(writer, wire):
        await writer.stream(b"first")
        second = group.create_task(writer.stream(b"second"), name="second")
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
        await wire.hear()
        await writer.stream(b"third")
    assert wire.sent == [b"first", b"third"]


# Over a real WebSocket


async def test_binary_and_text_frames_arrive_as_what_they_are() -> None:
    got: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def recording(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(frame("hello_ack", AGREED))
        async for data in connection:
            if isinstance(data, bytes) or json.loads(data)["type"] != "heartbeat":
                got.put_nowait(data)

    async with connected(recording) as (_, agent):
        await agent.transport.send_stream_binary(b"\x00\xff{")
        agent.outbox.add(result(1))
        assert {await get(got), await get(got)} == {b"\x00\xff{", result(1)}


async def test_a_large_replay_over_a_peer_that_does_not_read_holds_back_one_frame() -> None:
    go = asyncio.Event()
    types: list[str] = []
    done: list[int] = []
    over = asyncio.Event()

    async def slow(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge_agreed(connection)
        connection.transport.pause_reading()
        await go.wait()
        connection.transport.resume_reading()
        async for data in connection:
            types.append("binary" if isinstance(data, bytes) else str(json.loads(data)["type"]))
            if types.count("binary") == 8 and "command_response" in types:
                over.set()

    async with linked(slow, stream_queue=16) as (_, agent), asyncio.TaskGroup() as group:
        await get(agent.ready)

        async def send(number: int) -> None:
            await agent.transport.send_stream_binary(bytes(900_000))
            done.append(number)

        for number in range(8):
            group.create_task(send(number), name=f"telemetry-{number}")
        while not done:
            await asyncio.sleep(0)
        agent.outbox.add(result(7))
        go.set()
        await wait(over)
    # Behind the one frame that was in the socket when the result was made.
    assert types.index("command_response") <= types.index("binary") + 1


async def acknowledge_agreed(connection: ServerConnection) -> None:
    await connection.recv()
    await connection.send(frame("hello_ack", AGREED))


async def test_a_control_plane_of_the_contract_1_0_gets_no_binary_frame() -> None:
    async def strict(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        await polite(plane, connection)

    async with connected(strict) as (_, agent):
        with pytest.raises(NotConnected, match="does not take binary frames"):
            await agent.transport.send_stream_binary(b"data")


# Acknowledgements


@pytest.mark.parametrize(
    ("payload", "ack"),
    [
        ({"batch_id": "b", "accepted": True}, TelemetryAck(batch_id="b", accepted=True)),
        (
            {"batch_id": "b", "accepted": False, "error": {"code": "INVALID_PAYLOAD", "message": "no\nzstd"}},
            TelemetryAck(batch_id="b", accepted=False, error="INVALID_PAYLOAD: no zstd"),
        ),
        (
            {"batch_id": "b", "accepted": False, "error": "no"},
            TelemetryAck(batch_id="b", accepted=False, error="no"),
        ),
        ({"batch_id": "b", "accepted": True, "error": None}, TelemetryAck(batch_id="b", accepted=True)),
        ({"batch_id": "b"}, None),
        ({"batch_id": "b", "accepted": "yes"}, None),
        ({"accepted": True}, None),
        ({"batch_id": 5, "accepted": True}, None),
    ],
)
def test_an_acknowledgement_names_its_batch_and_a_verdict(payload: dict[str, Any], ack: TelemetryAck | None) -> None:
    assert parse_telemetry_ack(payload) == ack


JSON = st.none() | st.booleans() | st.integers() | st.text() | st.dictionaries(st.text(), st.text(), max_size=2)


@given(st.dictionaries(st.sampled_from(["batch_id", "accepted", "error"]), JSON))
def test_no_acknowledgement_raises(payload: dict[str, Any]) -> None:
    ack = parse_telemetry_ack(payload)
    assert ack is None or ack.batch_id


def test_an_acknowledgement_does_not_go_to_the_router_and_counts_until_the_socket_is_closed() -> None:
    pair = Pair(make_session(), PureControlPlane()).start()
    session = pair.session
    good = pure_frame(TELEMETRY_ACK, {"batch_id": "b", "accepted": True})
    assert session.received(good, pair.now) == [Acknowledged(ack=TelemetryAck(batch_id="b", accepted=True))]
    [ignored] = session.received(pure_frame(TELEMETRY_ACK), pair.now)
    assert isinstance(ignored, Ignored)
    session.redial("new certificates", pair.now)
    effects = session.received(good, pair.now)
    assert any(isinstance(effect, Acknowledged) for effect in effects)
    assert not any(isinstance(effect, Deliver) for effect in effects)


async def test_acknowledgements_reach_the_callback_in_order_though_the_router_is_stuck() -> None:
    acks: asyncio.Queue[TelemetryAck] = asyncio.Queue()

    async def behaviour(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge_agreed(connection)
        await connection.send(frame("deploy", {"request_id": "1"}))
        for number in range(3):
            await connection.send(frame(TELEMETRY_ACK, {"batch_id": f"b{number}", "accepted": number != 1}))
        await connection.wait_closed()

    async def stuck(envelope: object) -> None:
        await asyncio.Event().wait()

    async with connected(behaviour, deliver=stuck, on_telemetry_ack=acks.put_nowait):
        got = [await get(acks) for _ in range(3)]
    assert [(ack.batch_id, ack.accepted) for ack in got] == [("b0", True), ("b1", False), ("b2", True)]
