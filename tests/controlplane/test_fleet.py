"""Commands to agents: at most once, answered by request id, queued for the absent, newest connection wins."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import cast

import pytest

from syntra.controlplane.errors import ServerNotConnected
from syntra.controlplane.fleet import AgentLink, Fleet
from syntra.controlplane.outgoing import outgoing_command
from syntra.controlplane.records import CommandState
from syntra.controlplane.settings import ControlPlaneSettings, Limits, Timings
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.waiters import Waiters
from syntra.controlplane.websocket import NotSent, WebSocket
from tests.controlplane.client import ControlPlaneClientError
from tests.controlplane.harness import CLOCK, PATIENCE, Agent, Plane, deploy_payload, hello, running


async def test_a_command_reaches_the_agent_with_its_ids_and_its_answer_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent, asyncio.TaskGroup() as group:
        command = plane.call(plane.client.command, "srv_1", "exec", {"service_id": "svc_1", "command": ["id"]}, 10)
        waiting = group.create_task(command, name="operator")
        message = await agent.expect("exec")
        request_id = message["payload"]["request_id"]
        assert message["id"] == request_id
        assert message["payload"]["command"] == ["id"]
        answer = {"request_id": request_id, "success": True, "data": {"exit_code": 0, "stdout": "0", "stderr": ""}}
        await agent.send("command_response", answer)
        view = await waiting
        assert (view["state"], view["response"]) == ("answered", answer)
        assert await plane.call(plane.client.command_state, request_id) == view


async def test_given_ids_are_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        payload = deploy_payload(request_id="req-7", deployment_id="dep_7")
        accepted = await plane.call(plane.client.command, "srv_1", "deploy", payload)
        assert accepted == {"request_id": "req-7", "deployment_id": "dep_7", "state": "sent"}
        message = await agent.expect("deploy")
        assert message["id"] == "req-7"
        assert message["payload"] == payload


async def test_a_ping_carries_its_id_in_the_envelope_and_its_pong_answers_it(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        accepted = await plane.call(plane.client.command, "srv_1", "ping")
        message = await agent.expect("ping")
        assert message["id"] == accepted["request_id"]
        assert message["payload"] == {}
        await agent.send("pong", {}, id=message["id"])
        await agent.settled()
        view = await plane.call(plane.client.command_state, accepted["request_id"])
        assert view["state"] == "answered"
        assert view["response"]["success"] is True


async def test_a_used_request_id_is_refused_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, plane.agent() as agent:
        await plane.call(plane.client.command, "srv_1", "stop", {"request_id": "req-1"})
        with pytest.raises(ControlPlaneClientError) as refused:
            await plane.call(plane.client.command, "srv_1", "stop", {"request_id": "req-1"})
        assert (refused.value.status, refused.value.code) == (409, "CONFLICT")
        await agent.expect("stop")
        await agent.settled()


async def test_an_unanswered_command_times_out_and_a_late_answer_still_counts(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(command=0.05)) as plane, plane.agent() as agent:
        view = await plane.call(plane.client.command, "srv_1", "stop", {"service_id": "svc_1"}, 10)
        assert (view["state"], view["response"]) == ("timed_out", None)
        await agent.expect("stop")
        await agent.send("command_response", {"request_id": view["request_id"], "success": False})
        await agent.settled()
        late = await plane.call(plane.client.command_state, view["request_id"])
        assert (late["state"], late["response"]["success"]) == ("answered", False)


async def test_a_command_to_an_absent_server_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        await plane.token()
        with pytest.raises(ControlPlaneClientError) as refused:
            await plane.call(plane.client.command, "srv_1", "stop", {"request_id": "req-1"})
        assert (refused.value.status, refused.value.code) == (409, "SERVER_NOT_CONNECTED")
        with pytest.raises(ControlPlaneClientError) as unknown:
            await plane.call(plane.client.command_state, "req-1")
        assert unknown.value.status == 404


async def test_deploys_for_an_absent_server_come_with_the_hello_ack_in_order_and_once(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        token = await plane.token()
        queued = [
            await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload(service_id=f"svc_{index}"))
            for index in range(3)
        ]
        assert [accepted["state"] for accepted in queued] == ["queued"] * 3
        async with plane.agent(token=token) as agent:
            ids = [deploy["deployment_id"] for deploy in agent.ack["pending_deployments"]]
            assert ids == [accepted["deployment_id"] for accepted in queued]
            view = await plane.call(plane.client.deployment, ids[0])
            assert (view["status"], view["command"]["state"]) == (None, "sent")
        async with plane.agent(token=token) as agent:
            assert agent.ack["pending_deployments"] == []
            await agent.settled()


async def test_queued_deploys_beyond_one_frame_follow_as_commands(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(command_bytes=10_000)) as plane:
        token = await plane.token()
        for index in range(4):
            payload = deploy_payload(deployment_id=f"dep_{index}", padding="x" * 4000)
            await plane.call(plane.client.command, "srv_1", "deploy", payload)
        async with plane.agent(token=token) as agent:
            assert [deploy["deployment_id"] for deploy in agent.ack["pending_deployments"]] == ["dep_0", "dep_1"]
            followed = [(await agent.expect("deploy"))["payload"]["deployment_id"] for _ in range(2)]
            assert followed == ["dep_2", "dep_3"]
            await agent.settled()


async def test_the_queue_of_a_server_is_bounded(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(queued_per_server=1)) as plane:
        await plane.token()
        await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        with pytest.raises(ControlPlaneClientError) as refused:
            await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        assert (refused.value.status, refused.value.code) == (409, "LIMIT_REACHED")


async def test_deploys_while_an_agent_connects_are_delivered_exactly_once(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        token = await plane.token()
        async with asyncio.TaskGroup() as group:
            for index in range(20):
                payload = deploy_payload(deployment_id=f"dep_{index}")
                group.create_task(
                    plane.call(plane.client.command, "srv_1", "deploy", payload), name=f"operator {index}"
                )
            async with plane.agent(token=token) as agent:
                seen = [deploy["deployment_id"] for deploy in agent.ack["pending_deployments"]]
                while len(seen) < 20:
                    seen.append((await agent.expect("deploy"))["payload"]["deployment_id"])
                await agent.settled()
        assert sorted(seen) == sorted(f"dep_{index}" for index in range(20))


async def test_the_newest_connection_wins_and_the_older_is_closed_first(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        token = await plane.token()
        async with plane.agent(token=token) as old, plane.agent(token=token) as new:
            code, reason = await old.closed()
            assert (code, "superseded" in reason) == (4000, True)
            await _takes_commands(plane, new)


async def test_the_newer_hello_is_acknowledged_only_after_the_older_connection_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(close=0.2)) as plane:
        token = await plane.token()
        # An old agent whose cable is cut: it never answers the close frame, so only the deadline ends it.
        reader, writer = await _silent_agent(plane, token)
        async with plane.agent(token=token) as new:
            received = await reader.read()
            assert b"superseded" in received
            await _takes_commands(plane, new)
            writer.close()
            await new.settled()
            await _takes_commands(plane, new)


async def test_many_connections_of_one_server_at_once_leave_exactly_one(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        token = await plane.token()
        winners: list[Agent] = []
        done = asyncio.Event()
        ended = 0

        async def one() -> None:
            nonlocal ended
            async with plane.socket(token) as agent:
                await agent.send("agent_hello", hello())
                await agent.expect("hello_ack")
                async with asyncio.TaskGroup() as race:
                    closing = race.create_task(agent.closed(), name="closed")
                    finished = race.create_task(done.wait(), name="done")
                    await asyncio.wait({closing, finished}, return_when=asyncio.FIRST_COMPLETED)
                    if closing.done():
                        assert closing.result()[0] == 4000
                        ended += 1
                        if ended == 7:
                            done.set()
                    else:
                        winners.append(agent)
                    closing.cancel()

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for index in range(8):
                group.create_task(one(), name=f"agent {index}")
        assert (ended, len(winners)) == (7, 1)


async def test_an_agent_that_does_not_answer_pings_is_dropped_long_before_its_heartbeat_is_due(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(ping_interval=0.03, ping_timeout=0.03, close=0.1)) as plane:
        reader, writer = await _silent_agent(plane, await plane.token())
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                while await reader.read(1000):
                    pass
            while (await plane.call(plane.client.server, "srv_1"))["connected"]:
                pass
        writer.close()


class FaultySocket:
    """A socket that can look open while nothing can be written any more: the race between the look and the write."""

    def __init__(self, *, fails: bool) -> None:
        self.is_open = True
        self.fails = fails
        self.sent: list[str] = []

    def begin_close(self, code: int, reason: str) -> None:
        self.is_open = False

    async def send(self, text: str) -> None:
        if self.fails:
            raise NotSent(1001, "")
        self.sent.append(text)


async def test_a_link_that_ends_between_the_look_and_the_write_loses_nothing(tmp_path: Path) -> None:
    def link(socket: FaultySocket) -> AgentLink:
        return AgentLink(server_id="srv_1", connected_at=CLOCK, socket=cast(WebSocket, socket))

    async with StoreThread(tmp_path / "db", Limits(), 5.0) as store:
        fleet = Fleet(ControlPlaneSettings(data_dir=tmp_path), store, Waiters(), lambda: CLOCK)
        await store.run(Store.add_token, b"hash", "srv_1", "one", CLOCK)
        socket = FaultySocket(fails=False)
        ending = link(socket)
        await fleet.admit(ending, "one")
        socket.fails = True

        with pytest.raises(ServerNotConnected):
            await fleet.send(outgoing_command("srv_1", {"type": "stop"}, "req_1", 1000))
        assert await store.run(Store.command, "req_1") is None
        deploying = outgoing_command("srv_1", {"type": "deploy", "payload": deploy_payload()}, "req_2", 1000)
        assert await fleet.send(deploying) is CommandState.QUEUED
        fleet.remove(ending)

        # The hello's acknowledgement fails the same way: what it carried stays queued.
        failed = link(FaultySocket(fails=True))
        with pytest.raises(NotSent):
            await fleet.admit(failed, "one")
        fleet.remove(failed)

        taking = FaultySocket(fails=False)
        await fleet.admit(link(taking), "one")
        (pending,) = json.loads(taking.sent[0])["payload"]["pending_deployments"]
        assert pending["request_id"] == "req_2"


async def test_the_late_end_of_an_older_link_does_not_remove_the_newer(tmp_path: Path) -> None:
    settings = ControlPlaneSettings(data_dir=tmp_path, timings=Timings(close=0.01, store=0.01))
    async with StoreThread(tmp_path / "db", Limits(), 5.0) as store:
        fleet = Fleet(settings, store, Waiters(), lambda: CLOCK)
        await store.run(Store.add_token, b"hash", "srv_1", "one", CLOCK)
        old, new = (
            AgentLink(server_id="srv_1", connected_at=CLOCK, socket=cast(WebSocket, FaultySocket(fails=False)))
            for _ in range(2)
        )
        await fleet.admit(old, "one")
        # The old link's owner is stuck: it is told to close, waited for up to the deadline, and passed over.
        await fleet.admit(new, "one")
        assert not old.socket.is_open
        fleet.remove(old)
        assert fleet.link("srv_1") is new


async def _takes_commands(plane: Plane, agent: Agent) -> None:
    accepted = await plane.call(plane.client.command, "srv_1", "restart", {"service_id": "svc_1"})
    assert accepted["state"] == "sent"
    assert (await agent.expect("restart"))["id"] == accepted["request_id"]


async def _silent_agent(plane: Plane, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An agent after its hello_ack that neither answers nor closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    writer.write(
        b"GET /agent/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
    )
    frame = json.dumps({"id": "1", "type": "agent_hello", "timestamp": "", "payload": hello()}).encode()
    # A client's text frame, masked with zeros; two bytes of length.
    writer.write(b"\x81\xfe" + len(frame).to_bytes(2, "big") + bytes(4) + frame)
    await reader.readuntil(b"hello_ack")
    await reader.readuntil(b"}}")
    return reader, writer
