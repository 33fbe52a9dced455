"""The transport against a real WebSocket server on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from syntra.connection.codec import Envelope
from syntra.connection.errors import NotConnected
from syntra.connection.session import State
from syntra.utils.errors import AgentError
from tests.connection.rig import (
    FAST,
    HELLO,
    PATIENCE,
    TOKEN,
    Agent,
    ControlPlane,
    acknowledge,
    connected,
    frame,
    get,
    linked,
    polite,
    result,
    wait,
)

TELEMETRY = Envelope(id="t-1", type="telemetry_batch", timestamp="t", payload={"batch_id": "b"})


async def test_an_agent_introduces_itself_and_is_ready() -> None:
    ack = {"accepted": True, "server_name": "web-1", "pending_deployments": [{"deployment_id": "d"}]}
    async with linked(ack=ack) as (plane, agent):
        received = await get(agent.ready)
        assert received.server_name == "web-1"
        assert received.pending_deployments == ({"deployment_id": "d"},)
        headers = plane.requests[0].headers
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["X-Agent-Version"] == "0.1.0"
        assert "Sec-WebSocket-Extensions" not in headers
        assert TOKEN not in plane.requests[0].path
        hello = await get(plane.frames)
        assert hello["type"] == "agent_hello"
        assert hello["payload"] == HELLO
        assert (await plane.next("heartbeat"))["payload"] == {"agent_id": "agt_1"}
        status = agent.transport.status
        assert status.state is State.READY
        assert status.detail == "connected"
        assert status.attempts == 0
        assert status.next_attempt_secs is None
    assert await get(plane.closed) == (1000, "agent is stopping")
    assert agent.transport.status.detail == "agent is stopping"
    assert await get(agent.lost) == "agent is stopping"


async def test_heartbeats_go_on_and_measure_the_round_trip() -> None:
    async with connected(ack={"config": {"heartbeat_interval_seconds": 0}}, heartbeat_interval_secs=0.2) as (
        plane,
        agent,
    ):
        await plane.next("heartbeat")
        await plane.next("heartbeat")
        round_trip = agent.transport.status.round_trip_secs
        assert round_trip is not None
        assert 0 <= round_trip < 1


async def test_a_ping_is_answered_and_commands_are_delivered_from_text_and_binary_frames() -> None:
    async with connected() as (plane, agent):
        connection = await get(plane.connections)
        await connection.send(frame("ping", id="p-1"))
        assert (await plane.next("pong"))["id"] == "p-1"
        await connection.send(frame("deploy", {"n": 1}, id="c-1"))
        await connection.send(frame("teleport", {"n": 2}, id="c-2").encode())
        assert [(await get(agent.delivered)).id for _ in range(2)] == ["c-1", "c-2"]


async def test_garbage_frames_are_survived() -> None:
    async with connected() as (plane, agent):
        connection = await get(plane.connections)
        garbage: list[str | bytes] = [
            "",
            "{",
            "[" * 100_000,
            b"\xff\xfe\x00",
            '{"type":[]}',
            '{"type":"x","payload":1}',
            '{"type":"x","payload":{"a":[' + "[]," * 1_000_000 + "[]]}}",
        ]
        for item in garbage:
            await connection.send(item)
        await connection.send(b'{"type": "p\xffng"}', text=True)  # a text frame that is not UTF-8
        await connection.send(frame("ping"))
        await plane.next("pong")
        assert agent.transport.status.malformed_frames == len(garbage) + 1
        assert agent.lost.empty()


async def test_an_oversized_frame_closes_with_1009_and_the_agent_comes_back() -> None:
    async def oversized(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        await connection.send("x" * 20_000)
        await connection.wait_closed()

    async with connected(oversized, polite, max_frame_bytes=10_000) as (plane, agent):
        assert "too large" in await get(agent.failures.sentences)
        assert (await get(plane.closed))[0] == 1009
        await get(agent.ready)


async def test_a_silent_peer_is_left_and_dialled_again() -> None:
    async def silent(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        async for _ in connection:
            pass

    async with connected(silent, polite, heartbeat_interval_secs=0.1) as (_plane, agent):
        assert "nothing was heard" in await get(agent.lost)
        await get(agent.ready)


async def test_a_peer_that_never_acknowledges_hello_is_left() -> None:
    async def mute(plane: ControlPlane, connection: ServerConnection) -> None:
        async for text in connection:
            plane.frames.put_nowait(json.loads(text))

    timings = dataclasses.replace(FAST, ack_timeout_secs=0.1)
    async with linked(mute, polite, timings=timings) as (plane, agent):
        agent.outbox.add(result(1))
        assert "no hello_ack within 0.1 s" in await get(agent.failures.sentences)
        await get(agent.ready)
        assert [(await get(plane.frames))["type"] for _ in range(2)] == ["agent_hello", "agent_hello"]
        assert agent.lost.empty()


async def test_a_refused_hello_is_said_and_retried() -> None:
    async with linked(ack={"accepted": False, "reason": f"unknown server, token {TOKEN}"}) as (plane, agent):
        sentence = await get(agent.failures.sentences)
        assert "the control plane refused this agent: unknown server, token [token]" in sentence
        assert await get(plane.closed) == (1000, "hello was refused")
        plane.ack = {"accepted": True}
        await get(agent.ready)


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {}, "the token was refused: HTTP 401"),
        (403, {}, "the token was refused: HTTP 403"),
        (429, {"Retry-After": "0"}, "HTTP 429"),
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, "HTTP 503"),
        (404, {}, "check the endpoint"),
    ],
)
async def test_a_refused_handshake_is_said_and_retried(status: int, headers: dict[str, str], words: str) -> None:
    plane = ControlPlane()
    plane.answer = lambda request: Response(status, HTTPStatus(status).phrase, Headers(headers), b"")
    async with plane.serving(), Agent(plane.endpoint()).running() as agent:
        assert words in await get(agent.failures.sentences)
        assert words in agent.transport.status.detail
        await get(agent.failures.sentences)
        assert agent.transport.status.attempts >= 2
        plane.answer = lambda request: None
        await get(agent.ready)


async def test_retry_after_is_honoured() -> None:
    plane = ControlPlane()
    plane.answer = lambda request: Response(503, "Busy", Headers({"Retry-After": "1800"}), b"")
    async with plane.serving(), Agent(plane.endpoint()).running() as agent:
        await get(agent.failures.sentences)
        wait_secs = agent.transport.status.next_attempt_secs
        assert wait_secs is not None
        assert 1790 < wait_secs <= 1801


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    async with ControlPlane().serving() as other, ControlPlane().serving() as plane:

        def redirect(request: Request) -> Response:
            location = plane.endpoint() + "/other" if len(plane.requests) > 1 else other.endpoint()
            return Response(302, "Found", Headers({"Location": location}), b"")

        plane.answer = redirect
        async with Agent(plane.endpoint()).running() as agent:
            sentence = await get(agent.failures.sentences)
            await get(agent.failures.sentences)
        assert "redirect to" in sentence
        assert "not followed" in sentence
        assert other.requests == []
        assert {request.path for request in plane.requests} == {"/agent/ws"}


async def test_a_close_for_the_token_is_said_without_repeating_the_token() -> None:
    async def refuse(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(4001, f"bad token {TOKEN}")

    async with linked(refuse, polite) as (_plane, agent):
        sentence = await get(agent.failures.sentences)
        assert sentence.startswith("the token was refused: close code 4001 (bad token [token])")
        await get(agent.ready)


async def test_nobody_listening_is_a_network_failure_that_passes() -> None:
    async with ControlPlane().serving() as plane:
        endpoint, port = plane.endpoint(), plane.port
    async with Agent(endpoint).running() as agent:
        assert "cannot reach the control plane" in await get(agent.failures.sentences)
        assert str(port) in agent.transport.status.endpoint


async def test_a_server_that_speaks_something_else_is_a_network_failure() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, Agent(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/").running() as agent:
        assert "what answers is no HTTP server" in await get(agent.failures.sentences)


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    timings = dataclasses.replace(FAST, open_timeout_secs=0.1)
    endpoint = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, Agent(endpoint, timings=timings).running() as agent:
        assert "no answer within 0.1 s" in await get(agent.failures.sentences)


async def test_the_outbox_survives_connections_that_drop_in_the_middle() -> None:
    seen: list[int] = []
    everything = asyncio.Event()

    async def dropping(plane: ControlPlane, connection: ServerConnection) -> None:
        taken = 0
        await acknowledge(connection)
        async for text in connection:
            message = json.loads(text)
            if message["type"] != "command_response":
                continue
            seen.append(message["payload"]["number"])
            taken += 1
            if set(seen) >= set(range(60)):
                everything.set()
            elif taken == 8 * len(plane.requests):  # a little later every time
                connection.transport.abort()  # what the server has read already is still read below

    async with linked(dropping) as (plane, agent):
        for number in range(60):
            # Larger than the socket buffers together: much of what was sent is never read.
            agent.outbox.add(result(number, padding=400_000))
        await wait(everything)
        await wait(agent.outbox.empty)
    assert plane.most_open == 1


async def test_an_answer_that_the_peer_refuses_for_its_size_is_replaced_and_what_waits_behind_it_arrives() -> None:
    plane = ControlPlane(max_size=1 << 20)
    async with plane.serving():
        agent = Agent(plane.endpoint())
        for text in (result(1), result(2, padding=6 << 20), result(3)):
            agent.outbox.add(text)
        async with agent.running():
            await wait(agent.outbox.empty)
    answers = [plane.frames.get_nowait() for _ in range(plane.frames.qsize())]
    payloads = [answer["payload"] for answer in answers if answer["type"] == "command_response"]
    assert plane.connections.qsize() == 3, "two refusals, the second with that answer alone under way"
    assert agent.outbox.replaced == [2]
    assert [payload.get("number") for payload in payloads if "number" in payload][-1] == 3
    [failure] = [payload["error"] for payload in payloads if "error" in payload]
    assert failure["code"] == "ANSWER_TOO_LARGE"


async def test_a_slow_reader_slows_the_senders_down_and_loses_nothing() -> None:
    go, hello_read = asyncio.Event(), asyncio.Event()

    async def slow(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        hello_read.set()
        await go.wait()
        async for text in connection:
            plane.frames.put_nowait(json.loads(text))

    async with linked(slow, stream_queue=2) as (plane, agent), asyncio.TaskGroup() as group:
        await get(agent.ready)
        big = {"data": "x" * 1_000_000}
        done: list[int] = []

        async def send(number: int) -> None:
            envelope = Envelope(id=str(number), type="telemetry_batch", timestamp="t", payload=big)
            await agent.transport.send_stream(envelope)
            done.append(number)

        for number in range(30):
            group.create_task(send(number), name=f"telemetry-{number}")
        agent.outbox.add(result(7))
        await wait(hello_read)
        assert len(done) < 30
        go.set()
        await wait(agent.outbox.empty)
        got = [await plane.next("telemetry_batch") for _ in range(30)]
        assert sorted(int(message["id"]) for message in got) == list(range(30))


async def test_a_peer_that_takes_nothing_is_left_after_the_send_timeout() -> None:
    async def deaf(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        connection.transport.pause_reading()
        await connection.wait_closed()

    timings = dataclasses.replace(FAST, send_timeout_secs=0.2)
    async with linked(deaf, polite, timings=timings) as (plane, agent):
        agent.outbox.add(result(1, padding=15_000_000))
        await get(agent.ready)
        await get(agent.lost)
        await get(agent.ready)
        await wait(agent.outbox.empty)
        assert (await plane.next("command_response"))["payload"]["number"] == 1


async def test_the_old_socket_is_gone_before_the_next_dial_even_if_the_peer_never_closes() -> None:
    """A raw server that upgrades, sends one malformed WebSocket frame and then ignores the close that follows."""
    events: list[str] = []
    enough = asyncio.Event()
    count = 0

    async def stubborn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        number = count
        events.append(f"open {number}")
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        from websockets.utils import accept_key

        accept = accept_key(key.partition(b":")[2].strip().decode())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        writer.write(b"\xff\xff")  # reserved bits set: the client fails the connection with 1002
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        events.append(f"gone {number}")
        if number == 3:
            enough.set()
        writer.close()

    server = await asyncio.start_server(stubborn, "127.0.0.1", 0)
    timings = dataclasses.replace(FAST, close_timeout_secs=0.05)
    async with server, Agent(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timings=timings).running():
        await wait(enough)
    assert events[:6] == ["open 1", "gone 1", "open 2", "gone 2", "open 3", "gone 3"]


async def test_never_two_connections_at_once_whatever_ends_them() -> None:
    async def closing(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        await connection.close(4000, "connection error")

    async def breaking(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    behaviours = [closing, breaking, closing, breaking, polite]
    async with linked(*behaviours) as (plane, agent):
        for _ in range(3):
            await get(agent.ready)
        assert plane.most_open == 1
        assert len(plane.requests) == 5


async def test_streams_need_an_accepted_connection() -> None:
    hold = asyncio.Event()

    async def hesitant(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.recv()
        plane.frames.put_nowait({"type": "seen"})
        await hold.wait()
        await connection.send(frame("hello_ack"))
        await polite(plane, connection)

    async with linked(hesitant) as (plane, agent):
        await plane.next("seen")
        with pytest.raises(NotConnected, match="cannot send to the control plane"):
            await agent.transport.send_stream(TELEMETRY)
        hold.set()
        await get(agent.ready)
        await agent.transport.send_stream(TELEMETRY)
        assert (await plane.next("telemetry_batch"))["payload"] == {"batch_id": "b"}
        await agent.transport.stop()
        with pytest.raises(NotConnected):
            await agent.transport.send_stream(TELEMETRY)


async def test_figures_that_cannot_be_gathered_cost_one_heartbeat_only() -> None:
    calls = 0

    async def heartbeat() -> Mapping[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise AgentError("cannot reach Docker")
        if calls == 2:
            await asyncio.sleep(3600)
        return {"agent_id": "agt_1"}

    async with connected(heartbeat=heartbeat, heartbeat_interval_secs=0.15) as (plane, _agent):
        await plane.next("heartbeat")
        assert calls == 3


async def test_a_hello_that_cannot_be_gathered_is_tried_again() -> None:
    calls = 0

    async def hello() -> Mapping[str, Any]:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise AgentError("cannot reach Docker")
        return HELLO

    async with linked(hello=hello) as (plane, agent):
        assert "the hello could not be gathered" in await get(agent.failures.sentences)
        await get(agent.ready)
        assert len(plane.requests) == 1


async def test_a_command_the_router_cannot_take_costs_only_itself() -> None:
    delivered: asyncio.Queue[str] = asyncio.Queue()

    async def deliver(envelope: Envelope) -> None:
        if envelope.id == "bad":
            raise AgentError("cannot store the command")
        delivered.put_nowait(envelope.id)

    async with connected(deliver=deliver) as (plane, _agent):
        connection = await get(plane.connections)
        for id_ in ("bad", "good"):
            await connection.send(frame("deploy", id=id_))
        assert await get(delivered) == "good"


async def test_a_busy_router_holds_the_peer_back_while_pings_are_answered_and_nothing_is_lost() -> None:
    go, delivered = asyncio.Event(), []

    async def deliver(envelope: Envelope) -> None:
        await go.wait()
        delivered.append(envelope.id)
        if len(delivered) == 200:
            finished.set()

    finished = asyncio.Event()
    plane = ControlPlane()
    async with plane.serving():
        agent = Agent(plane.endpoint(), deliver=deliver, heartbeat_interval_secs=0.05)
        async with agent.running():
            await get(agent.ready)
            connection = await get(plane.connections)
            for number in range(50):
                await connection.send(frame("deploy", id=str(number)))
            await connection.send(frame("ping", id="p"))
            await plane.next("pong")
            for number in range(50, 200):
                await connection.send(frame("deploy", id=str(number)))
            for _ in range(6):  # longer than three intervals: the peer is not silent, we are not reading
                await plane.next("heartbeat")
            assert agent.lost.empty()
            go.set()
            await wait(finished)
    assert delivered == [str(number) for number in range(200)]


async def test_commands_received_before_a_break_are_delivered_after_it() -> None:
    go = asyncio.Event()
    delivered: asyncio.Queue[str] = asyncio.Queue()

    async def deliver(envelope: Envelope) -> None:
        await go.wait()
        delivered.put_nowait(envelope.id)

    async def burst(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        for number in range(10):
            await connection.send(frame("deploy", id=str(number)))
        await connection.close(1001, "restarting")

    async with connected(burst, polite, deliver=deliver) as (_plane, agent):
        await get(agent.ready)
        go.set()
        assert [await get(delivered) for _ in range(10)] == [str(number) for number in range(10)]


async def test_cancelling_run_closes_the_socket_and_leaves_no_task() -> None:
    async with ControlPlane().serving() as plane:
        agent = Agent(plane.endpoint())
        async with asyncio.TaskGroup() as group:
            run = group.create_task(agent.transport.run(), name="agent")
            await get(agent.ready)
            run.cancel()
        assert run.cancelled()
        assert await get(plane.closed) == (1000, "agent is stopping")
        assert agent.lost.qsize() == 1


async def test_stop_overtakes_a_dial_and_a_wait() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()
        await reader.read()
        gone.set()
        writer.close()

    dialled, gone = asyncio.Event(), asyncio.Event()
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    endpoint = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        async with asyncio.timeout(2), Agent(endpoint).running():
            await wait(dialled)
        await wait(gone)
    plane = ControlPlane()
    plane.answer = lambda request: Response(503, "Busy", Headers({"Retry-After": "1800"}), b"")
    async with plane.serving(), asyncio.timeout(2), Agent(plane.endpoint()).running() as agent:
        await get(agent.failures.sentences)
    assert agent.transport.status.state is State.DISCONNECTED


async def test_stop_breaks_the_socket_of_a_peer_that_does_not_close_within_the_deadline() -> None:
    async def deaf(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        connection.transport.pause_reading()
        await connection.wait_closed()

    timings = dataclasses.replace(FAST, close_timeout_secs=60.0)
    plane = ControlPlane(deaf)
    async with plane.serving():
        agent = Agent(plane.endpoint(), timings=timings)
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(agent.transport.run(), name="agent")
            await get(agent.ready)
            await agent.transport.stop(deadline_secs=0.1)


async def test_stop_before_run_and_twice_is_harmless() -> None:
    agent = Agent("ws://127.0.0.1:9/")
    await agent.transport.stop()
    await agent.transport.run()
    await agent.transport.stop()
    assert agent.transport.status.state is State.DISCONNECTED


async def test_the_token_is_in_no_log_record_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets").setLevel(logging.DEBUG)
    try:
        plane = ControlPlane(polite)
        async with plane.serving(), Agent(plane.endpoint()).running() as agent:
            await get(agent.ready)
            (await get(plane.connections)).transport.abort()
            await get(agent.ready)
        assert caplog.records
        for record in caplog.records:
            assert TOKEN not in repr(record.__dict__)
        assert TOKEN not in repr(agent.transport.status)
    finally:
        logging.getLogger("websockets").setLevel(logging.NOTSET)


async def test_a_bug_in_an_injected_callable_ends_run_loudly_with_the_socket_closed() -> None:
    async def deliver(envelope: Envelope) -> None:
        raise ZeroDivisionError(envelope.id)

    async def commanding(plane: ControlPlane, connection: ServerConnection) -> None:
        await acknowledge(connection)
        await connection.send(frame("deploy", id="c-1"))
        await connection.wait_closed()

    async with ControlPlane(commanding).serving() as plane, asyncio.timeout(PATIENCE):
        agent = Agent(plane.endpoint(), deliver=deliver)
        with pytest.raises(ExceptionGroup) as caught:
            await agent.transport.run()
        assert caught.value.subgroup(ZeroDivisionError) is not None
        assert (await get(plane.closed))[0] == 1000
