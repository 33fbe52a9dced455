"""Telemetry over real sockets: both forms, acknowledged after the commit, stored once, and never in anyone's way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from syntra.connection.codec import Envelope
from syntra.connection.messages import TelemetryAck
from syntra.controlplane.settings import Limits
from syntra.telemetry.wire import telemetry_pb2 as wire
from tests.connection.rig import Agent as Linked
from tests.connection.rig import get
from tests.controlplane.harness import Agent, Plane, hello, running
from tests.controlplane.telemetry.samples import (
    EXTENSIONS,
    batch,
    frame,
    lines,
    log_item,
    logs,
    metrics,
    trace_id,
    traces,
)


@contextlib.asynccontextmanager
async def agreed(plane: Plane, server_id: str = "srv_1", *, extensions: list[str] = EXTENSIONS) -> AsyncIterator[Agent]:
    """An agent that offers the extensions."""
    async with plane.socket(await plane.token(server_id)) as agent:
        await agent.send("agent_hello", hello(server_id, capabilities=["deploy", *extensions]))
        agent.ack = (await agent.expect("hello_ack"))["payload"]
        yield agent


async def answered(agent: Agent, data: bytes) -> dict[str, Any]:
    """Send a binary frame; the payload of its acknowledgement."""
    await agent.socket.send(data)
    payload: dict[str, Any] = (await agent.expect("telemetry_ack"))["payload"]
    return payload


# A real agent and a real control plane


@contextlib.asynccontextmanager
async def linked(plane: Plane, extensions: list[str]) -> AsyncIterator[tuple[Linked, asyncio.Queue[TelemetryAck]]]:
    acks: asyncio.Queue[TelemetryAck] = asyncio.Queue()

    async def introduce() -> Mapping[str, Any]:
        return hello(capabilities=["deploy", *extensions])

    agent = Linked(
        f"ws://127.0.0.1:{plane.port}/agent/ws",
        token=await plane.token(),
        hello=introduce,
        on_telemetry_ack=acks.put_nowait,
    )
    async with agent.running():
        yield agent, acks


async def test_an_agent_and_the_control_plane_agree_on_binary_frames_and_acknowledgements(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, linked(plane, EXTENSIONS) as (agent, acks):
        assert (await get(agent.ready)).features == set(EXTENSIONS)
        sent = {
            "traces": frame("b1", traces(2)),
            "logs": frame("b2", logs(3), wire.SIGNAL_LOGS),
            "metrics": frame("b3", metrics(1.5, float("nan")), wire.SIGNAL_METRICS),
            "errors": frame("b4", b'{"id":"e1","service_id":"api","context":{"n":1e999}}\n', wire.SIGNAL_ERRORS),
            "health_checks": frame("b5", lines([{"service_id": "api"}] * 2), wire.SIGNAL_HEALTH_CHECKS),
        }
        for number, data in enumerate(sent.values(), 1):
            await agent.transport.send_stream_binary(data)
            assert await get(acks) == TelemetryAck(batch_id=f"b{number}", accepted=True)
        found = {kind: await plane.call(plane.client.all_telemetry, kind) for kind in sent}
        assert {kind: len(items) for kind, items in found.items()} == {
            "traces": 2,
            "logs": 3,
            "metrics": 1,
            "errors": 1,
            "health_checks": 2,
        }
        span = found["traces"][1]
        assert (span["trace_id"], span["operation_name"], span["service_id"]) == (trace_id(1).hex(), "span 1", "api")
        assert (span["span_kind"], span["duration_ns"], span["server_id"]) == ("server", 1000, "srv_1")
        assert [(line["level"], line["message"]) for line in found["logs"]] == [
            ("error", f"line {n}") for n in range(3)
        ]
        assert found["logs"][0]["timestamp"].startswith("2026-01-02T03:04:05")
        # NaN is a value of OTLP, and not of JSON; JSON has numbers that no double can hold.
        assert [point["value"] for point in found["metrics"]] == [1.5]
        assert found["errors"] == [{"id": "e1", "service_id": "api", "context": {"n": None}, "server_id": "srv_1"}]
        assert (await plane.call(plane.client.server, "srv_1"))["telemetry"]["batches"] == 5


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("extensions", [[], ["telemetry_ack"]])
async def test_the_contracts_batches_are_stored_and_acknowledged_where_agreed(
    tmp_path: Path, compress: bool, extensions: list[str]
) -> None:
    async with running(tmp_path) as plane, linked(plane, extensions) as (agent, acks):
        assert (await get(agent.ready)).features == set(extensions)
        checks = [{"service_id": "web", "timestamp": "2026-01-02T03:04:05Z", "is_healthy": True}]
        payload = batch("b1", compress=compress, logs=[log_item(0), log_item(1)], health_checks=checks)
        await agent.transport.send_stream(Envelope(id="1", type="telemetry_batch", timestamp="", payload=payload))
        if extensions:
            assert await get(acks) == TelemetryAck(batch_id="b1", accepted=True)
        async with asyncio.timeout(5):
            while not (found := await plane.call(plane.client.all_telemetry, "logs")):
                await asyncio.sleep(0.01)
        assert found == [{**log_item(number), "server_id": "srv_1"} for number in range(2)]
        assert len(await plane.call(plane.client.all_telemetry, "health_checks", service="web")) == 1
        assert acks.empty()


# What is agreed


@pytest.mark.parametrize(
    ("capabilities", "features"),
    [
        (["deploy", "telemetry_ack"], ["telemetry_ack"]),
        (["binary_telemetry", "log_credit", 5, None], ["binary_telemetry"]),
        (["deploy"], None),
        ({"binary_telemetry": True}, None),
        (None, None),
    ],
)
async def test_features_are_those_that_both_sides_have(
    tmp_path: Path, capabilities: object, features: list[str] | None
) -> None:
    async with running(tmp_path) as plane, plane.socket(await plane.token()) as agent:
        await agent.send("agent_hello", hello(capabilities=capabilities))
        ack = (await agent.expect("hello_ack"))["payload"]
        assert ack["config"].get("features") == features


async def test_without_the_agreement_a_binary_frame_is_read_as_json(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, agreed(plane, extensions=["telemetry_ack"]) as agent:
        beat = {"id": "beat", "type": "heartbeat", "timestamp": "", "payload": {}}
        await agent.socket.send(json.dumps(beat).encode())
        assert (await agent.expect("pong"))["id"] == "beat"
        await agent.socket.send(frame("b", traces()))
        assert (await agent.closed())[0] == 4000


async def test_a_fragmented_binary_frame_is_one_and_text_between_two_stays_text(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, agreed(plane) as agent:
        data = frame("b1", traces(100))
        await agent.socket.send([data[:10], data[10:500], data[500:]])
        assert (await agent.expect("telemetry_ack"))["payload"]["accepted"] is True
        await agent.settled()
        assert (await answered(agent, frame("b2", traces())))["batch_id"] == "b2"


# Acknowledged and stored once


async def test_a_batch_whose_acknowledgement_was_lost_is_acknowledged_again_and_stored_once(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        token = await plane.token()
        for attempt in range(3):
            async with plane.socket(token) as agent:
                await agent.send("agent_hello", hello(capabilities=EXTENSIONS))
                await agent.expect("hello_ack")
                await agent.socket.send(frame("b1", traces(5)))
                if attempt == 0:
                    # The link breaks before the acknowledgement is read.
                    agent.socket.transport.abort()
                    continue
                assert (await agent.expect("telemetry_ack"))["payload"] == {"batch_id": "b1", "accepted": True}
                # The other form of the same batch, as after an upgrade of the agent.
                await agent.send("telemetry_batch", batch("b1", logs=[log_item(0)]))
                assert (await agent.expect("telemetry_ack"))["payload"] == {"batch_id": "b1", "accepted": True}
        assert len(await plane.call(plane.client.all_telemetry, "traces")) == 5
        assert await plane.call(plane.client.all_telemetry, "logs") == []
        assert (await plane.call(plane.client.server, "srv_1"))["telemetry"]["batches"] == 1


async def test_two_servers_may_use_the_same_batch_id_and_a_batch_without_one_is_stored(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, agreed(plane, "srv_1") as one, agreed(plane, "srv_2") as two:
        for agent in (one, two):
            assert (await answered(agent, frame("b1", traces())))["accepted"] is True
            await agent.send("telemetry_batch", {**batch("", logs=[log_item(0)]), "batch_id": None})
            await agent.settled()
        for kind in ("traces", "logs"):
            found = await plane.call(plane.client.all_telemetry, kind)
            assert [item["server_id"] for item in found] == ["srv_1", "srv_2"]


async def test_a_batch_that_cannot_be_stored_is_not_acknowledged_and_can_be_sent_again(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        async with agreed(plane) as agent:
            await plane.sql("ALTER TABLE telemetry_services RENAME TO hidden")
            await agent.socket.send(frame("b1", traces()))
            assert (await agent.closed())[0] == 4000
            await plane.sql("ALTER TABLE hidden RENAME TO telemetry_services")
        async with agreed(plane) as agent:
            assert (await answered(agent, frame("b1", traces())))["accepted"] is True
        assert len(await plane.call(plane.client.all_telemetry, "traces")) == 1


# Refused


BOMB = zstandard.compress(bytes(200_000_000))
TINY_MESSAGES = b"\x0a\x00" * 7_000_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame("b", b"", packed=BOMB), "data: has more than 67108864 bytes when decompressed"),
        (frame("b", b"", packed=zstandard.compress(TINY_MESSAGES)), "data: has more than 100000 resources"),
        (frame("b", traces(), signal=99), "signal: 99"),
        (frame("b", traces(), signal=wire.SIGNAL_PROFILES), "signal: 4"),
        (frame("b", traces(), signal=0), "signal: 0"),
        (frame("b", traces(), compression=0), "compression: 0"),
        (frame("b", traces(), compression=7), "compression: 7"),
        (frame("b", b"", packed=traces()), "data: is not a zstd stream"),
        (frame("b", b"", packed=b""), "data: is an incomplete zstd stream"),
        (frame("b", b"", packed=zstandard.compress(traces(50))[:-1]), "data: is an incomplete zstd stream"),
        (frame("b", traces(50)[:-1]), "data: is not an OTLP request"),
        (frame("b", b'{"resourceSpans": []}'), "data: is not an OTLP request"),
        (frame("b", b"no json\n", wire.SIGNAL_ERRORS), "data: has a line that is not JSON"),
        (frame("b", b"[]\n", wire.SIGNAL_ERRORS), "data: has a line that is not a JSON object"),
        (frame("b", b"\n" * 60_000_000, wire.SIGNAL_ERRORS), "data: has more than 100000 lines"),
        (frame("b", b'{"a":NaN}\n', wire.SIGNAL_ERRORS), "data: has a line that is not JSON"),
        (frame("b", b"[" * 15_000 + b"\n", wire.SIGNAL_ERRORS), "data: has a line that is not JSON"),
        (frame("b", b"[" + b"0," * 30_000 + b"0]\n", wire.SIGNAL_ERRORS), "data: has an item of more than 20000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "frame",
)
async def test_a_frame_that_cannot_be_stored_is_refused_for_ever_and_the_connection_stays(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    async with running(tmp_path) as plane, agreed(plane) as agent:
        ack = await answered(agent, data)
        assert (ack["batch_id"], ack["accepted"], ack["error"]["code"]) == ("b", False, "INVALID_PAYLOAD")
        assert ack["error"]["message"].startswith(reason)
        # The id is free: what was refused is not stored.
        assert (await answered(agent, frame("b", traces())))["accepted"] is True
        server = await plane.call(plane.client.server, "srv_1")
        assert (server["ignored_messages"], server["telemetry"]["batches"]) == (1, 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", frame("", traces()), frame("x" * 257, traces()), b"\x0a\x01\xff"],
    ids=["empty", "no message", "no id", "long id", "id that is no text"],
)
async def test_a_frame_without_a_batch_id_is_counted_and_ignored(tmp_path: Path, data: bytes) -> None:
    async with running(tmp_path) as plane, agreed(plane) as agent:
        await agent.socket.send(data)
        await agent.settled()
        assert (await plane.call(plane.client.server, "srv_1"))["ignored_messages"] == 1


def _compressed(data: bytes) -> dict[str, Any]:
    return {"compression": "zstd", "data": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (_compressed(BOMB), "data: has more than 16777216 bytes when decompressed"),
        (_compressed(zstandard.compress(b"[" + b"[]," * 300_000 + b"[]]")), "data: has more than 200000 values"),
        (_compressed(zstandard.compress(b"[" * 100_000)), "data: is not JSON"),
        (_compressed(zstandard.compress(b"\xff")), "data: is not base64 of compressed UTF-8"),
        (_compressed(zstandard.compress(b"[]")), "data: is not an object"),
        (_compressed(b"plain"), "data: is not a zstd stream"),
        ({"compression": "zstd", "data": "KLUv/SAAAQAA?"}, "data: is not base64"),
        ({"compression": "zstd", "data": {}}, "data: is not base64"),
        ({"compression": "gzip"}, "compression: is neither zstd nor none"),
        ({"compression": "none", "data": None}, "data: is not an object"),
        ({"compression": "none", "data": {"logs": {}}}, "data.logs: is not a list of objects"),
        ({"compression": "none", "data": {"logs": ["text"]}}, "data.logs: is not a list of objects"),
    ],
    ids=lambda value: value if isinstance(value, str) else "batch",
)
async def test_a_batch_of_the_contract_that_cannot_be_stored_is_refused_and_the_connection_stays(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    async with running(tmp_path) as plane, agreed(plane) as agent:
        await agent.send("telemetry_batch", {**batch("b"), **changes})
        ack = (await agent.expect("telemetry_ack"))["payload"]
        assert (ack["batch_id"], ack["accepted"]) == ("b", False)
        assert ack["error"]["message"].startswith(reason)
        await agent.settled()
        assert (await plane.call(plane.client.server, "srv_1"))["ignored_messages"] == 1


# Shares


async def test_a_server_that_sends_much_deletes_nothing_of_another(tmp_path: Path) -> None:
    limits = replace(Limits(), kept_telemetry_bytes=120_000)
    async with (
        running(tmp_path, limits=limits) as plane,
        agreed(plane, "quiet") as quiet,
        agreed(plane, "busy") as busy,
    ):
        for number in range(10):
            await answered(quiet, frame(f"q{number}", traces(10, first=number * 10)))
        for number in range(80):
            data = frame(f"b{number}", traces(200, first=number * 200))
            assert (await answered(busy, data))["accepted"] is True
        kept = await plane.call(plane.client.all_telemetry, "traces", server="quiet")
        assert [span["operation_name"] for span in kept] == [f"span {number}" for number in range(100)]
        kept = await plane.call(plane.client.all_telemetry, "traces", server="busy")
        numbers = [int(span["operation_name"].removeprefix("span ")) for span in kept]
        # The newest, without a gap.
        assert 1000 < len(numbers) < 12_000
        assert numbers == list(range(16_000 - len(numbers), 16_000))
