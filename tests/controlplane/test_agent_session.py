"""The life of an agent's connection, over real sockets: every close code and what leads to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from syntra.controlplane.settings import Limits, Timings
from tests.controlplane.harness import hello, running


async def test_a_hello_is_acknowledged_with_the_servers_name_and_configuration(tmp_path: Path) -> None:
    async with running(tmp_path, org_id="org_7") as plane:
        created = await plane.call(plane.client.create_token, "srv_1", "web one")
        async with plane.agent("srv_1", created["token"]) as agent:
            assert agent.ack == {
                "server_id": "srv_1",
                "accepted": True,
                "server_name": "web one",
                "org_id": "org_7",
                "config": {
                    "heartbeat_interval_seconds": 30,
                    "telemetry_batch_interval_seconds": 5,
                    "telemetry_buffer_max_mb": 50,
                    "log_level": "info",
                },
                "pending_deployments": [],
            }


async def test_a_binary_frame_is_read_as_text_is(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.socket(await plane.token()) as agent:
        frame = {"id": "1", "type": "agent_hello", "timestamp": "", "payload": hello()}
        await agent.socket.send(json.dumps(frame).encode())
        await agent.expect("hello_ack")


@pytest.mark.parametrize("token", [None, "syn_agt_wrong"])
async def test_a_missing_or_bad_token_is_closed_with_4001_after_the_upgrade(tmp_path: Path, token: str | None) -> None:
    async with running(tmp_path) as plane, plane.socket(token) as agent:
        assert await agent.closed() == (4001, "missing or bad token")


async def test_the_operators_token_is_no_agents_token(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.socket(plane.operator_token) as agent:
        assert (await agent.closed())[0] == 4001


async def test_another_servers_token_is_closed_with_4001(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.socket(await plane.token("srv_1")) as agent:
        await agent.send("agent_hello", hello("srv_2"))
        assert (await agent.closed())[0] == 4001


async def test_no_hello_in_time_is_closed_with_4002(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(hello=0.05)) as plane, plane.socket(await plane.token()) as agent:
        assert await agent.closed() == (4002, "no agent_hello within 0.05 s")


async def test_anything_before_the_hello_is_closed_with_4002(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.socket(await plane.token()) as agent:
        await agent.send("heartbeat", {})
        assert (await agent.closed())[0] == 4002


async def test_a_first_frame_that_is_no_envelope_is_closed_with_4003(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.socket(await plane.token()) as agent:
        await agent.socket.send("{")
        assert (await agent.closed())[0] == 4003


@pytest.mark.parametrize(
    "changes",
    [
        {"agent_id": None},
        {"server_id": 5},
        {"version": ["1"]},
        {"protocol_version": "one"},
        {"min_supported": "1"},
        {"capabilities": ["x" * 70_000]},
        {"version": {"é" * 200: 1}},
    ],
)
async def test_a_malformed_hello_is_closed_with_4003(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with running(tmp_path) as plane, plane.socket(await plane.token()) as agent:
        await agent.send("agent_hello", hello(**changes))
        assert (await agent.closed())[0] == 4003


@pytest.mark.parametrize("changes", [{"min_supported": "1.1"}, {"protocol_version": "0.9"}])
async def test_an_agent_without_protocol_1_0_is_told_so_and_closed_with_4003(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with running(tmp_path) as plane, plane.socket(await plane.token()) as agent:
        await agent.send("agent_hello", hello(**changes))
        assert (await agent.expect("hello_ack"))["payload"]["accepted"] is False
        assert (await agent.closed())[0] == 4003
        assert (await plane.call(plane.client.server, "srv_1"))["connected"] is False


async def test_a_newer_agent_that_still_speaks_1_0_is_accepted(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.socket(await plane.token()) as agent:
        await agent.send("agent_hello", hello(protocol_version="2.3", min_supported="1.0"))
        assert (await agent.expect("hello_ack"))["payload"]["accepted"] is True


async def test_without_heartbeats_other_messages_do_not_keep_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(heartbeat=0.15)) as plane, plane.agent() as agent:
        for _ in range(3):
            await agent.send("alert", {"alert_id": "1"})
        assert await agent.closed() == (4004, "no heartbeat for 0.15 s")


async def test_a_heartbeat_is_answered_with_a_pong_of_the_same_id_and_moves_the_deadline(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(heartbeat=0.3)) as plane, plane.agent() as agent:
        begun = agent.socket.loop.time()
        while agent.socket.loop.time() < begun + 0.35:
            await agent.settled()
        assert (await plane.call(plane.client.server, "srv_1"))["connected"] is True
        assert (await agent.closed())[0] == 4004


async def test_a_malformed_frame_after_the_hello_is_closed_with_4000(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        await agent.socket.send('{"type": 5}')
        assert (await agent.closed())[0] == 4000


async def test_a_frame_of_a_million_values_is_malformed(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        await agent.socket.send('{"type": "alert", "payload": {"a": [' + "[]," * 1_000_000 + "[]]}}")
        assert await agent.closed() == (4000, "malformed frame: more than 200000 values")


async def test_a_frame_beyond_the_limit_is_closed_with_1009(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(message_bytes=10_000)) as plane, plane.agent() as agent:
        await agent.send("alert", {"text": "x" * 10_001})
        assert (await agent.closed())[0] == 1009


async def test_a_second_hello_is_ignored_as_a_message(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        await agent.send("agent_hello", hello())
        await agent.settled()
        assert (await plane.call(plane.client.server, "srv_1"))["ignored_messages"] == 1
