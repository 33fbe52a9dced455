"""The local socket, spoken to as clients do: by a real unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.api.local_socket import (
    MAX_CONNECTIONS,
    MAX_LINE_BYTES,
    QUEUE_BYTES,
    SEND_SECS,
    LocalSocket,
    SocketInUse,
)
from syntra.agent.api.running_requests import MAX_REQUESTS
from syntra.model.ids import ContainerId
from syntra.model.status import LogLine
from syntra.runtime.runtime import LogRange
from syntra.utils.errors import AgentError
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine
from tests.agent.samples import deploy_payload
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

CLIENT_BYTES = 1024 * 1024


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, kind: str, request_id: str, **payload: object) -> None:
        message = {"id": request_id, "type": kind, "payload": {"request_id": request_id, **payload}}
        self.send_raw(json.dumps(message).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> dict[str, Any]:
        line = await self.reader.readline()
        assert line, "the agent closed the connection"
        message: dict[str, Any] = json.loads(line)
        return message

    async def rest(self) -> list[dict[str, Any]]:
        """Everything up to the end of the connection."""
        return [json.loads(line) for line in (await self.reader.read()).splitlines()]

    async def until(self, kind: str, **wanted: object) -> dict[str, Any]:
        """The payload of the next message of that kind with these values."""
        while True:
            message = await self.receive()
            payload: dict[str, Any] = message["payload"]
            if message["type"] == kind and all(payload.get(key) == value for key, value in wanted.items()):
                return payload


class Served:
    """An agent with its socket open."""

    def __init__(self, agent: Agent, path: Path, local: LocalSocket) -> None:
        self.agent, self.path, self.local = agent, path, local

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=CLIENT_BYTES)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def serves(self) -> bool:
        """Whether a new client is answered."""
        async with self.client() as client:
            client.send("status", "serves")
            return bool((await client.receive())["payload"]["success"])


@asynccontextmanager
async def served(tmp_path: Path, adapter: FakeEngine | None = None) -> AsyncIterator[Served]:
    async with running(tmp_path / "data", adapter or FakeEngine()) as agent:
        path = tmp_path / "run" / "agent.sock"
        local = LocalSocket(path, agent.router, agent.reports)
        await local.open()
        try:
            yield Served(agent, path, local)
        finally:
            await local.close()
            assert not path.exists()


async def test_the_socket_is_private_whatever_the_umask_and_gone_at_the_end(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with served(tmp_path) as agent:
            assert stat.S_IMODE(agent.path.stat().st_mode) == 0o600
            assert stat.S_IMODE(agent.path.parent.stat().st_mode) & 0o007 == 0
            assert os.umask(0) == 0
    finally:
        os.umask(old)


async def test_a_command_is_answered_and_its_story_told_on_its_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client, agent.client() as other:
        client.send("deploy", "r1", **deploy_payload("d1"))
        answer = await client.until("command_response")
        assert answer["data"] == {"accepted": True, "deployment_id": "d1"}
        assert (await client.until("deploy_status", status="running"))["progress_percent"] == 100
        client.send("exec", "r2", service_id="web", command=["sh", "-c", "echo hello;exit 3"])
        assert (await client.until("command_response", request_id="r2"))["data"] == {
            "exit_code": 3,
            "stdout": "hello\n",
            "stderr": "",
        }
        other.send("status", "r3")
        message = await other.receive()
        assert message["payload"]["request_id"] == "r3"


async def test_without_a_request_id_the_envelope_names_the_request(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        client.send_raw(b'{"id": "e1", "type": "list_services"}\n')
        payload = (await client.receive())["payload"]
        assert (payload["request_id"], payload["data"]) == ("e1", {"services": []})


GARBAGE = [
    b"\n",
    b"hello\n",
    b"[]\n",
    b"{}\n",
    b"null\n",
    b'{"id": [1], "type": "status"}\n',
    b'{"id": "x", "type": "status", "payload": {"list": [' + b"[]," * 300_000 + b"1]}}\n",
    b'{"id": "x", "type": ["status"]}\n',
    b'{"id": "x", "type": "status", "payload": []}'.replace(b"[]", b"[1]") + b"\n",
    b'{"id": "", "type": "status"}\n',
    b'{"id": "with space", "type": "status"}\n',
    b"\xff\xfe\x00\n",
    b'{"id": "x", "type": "stat\xffus"}\n',
    b"[" * 100_000 + b"\n",
    b"\x00" * 5000 + b"\n",
]


async def test_garbage_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        for garbage in GARBAGE:
            client.send_raw(garbage)
            payload = (await client.receive())["payload"]
            assert payload["error"]["code"] == "MALFORMED", garbage[:50]
        client.send("levitate", "r1")
        assert (await client.receive())["payload"]["error"]["code"] == "UNSUPPORTED"
        client.send("deploy", "r2")
        assert (await client.receive())["payload"]["error"]["code"] == "INVALID_PAYLOAD"
        client.send("status", "r3")
        assert (await client.receive())["payload"]["success"]


async def test_a_line_that_is_too_long_is_refused_and_the_connection_closed(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        client.send_raw(b"x" * (MAX_LINE_BYTES + 1))
        [message] = await client.rest()
        assert message["payload"]["error"]["code"] == "TOO_LARGE"
        assert await agent.serves()


async def test_a_command_of_which_only_half_came_is_not_carried_out(tmp_path: Path) -> None:
    line = json.dumps({"id": "r1", "type": "deploy", "payload": deploy_payload("d1")}).encode()
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        for end in (1, len(line) // 2, len(line)):
            async with agent.client() as client:
                client.send_raw(line[:end])
                client.writer.write_eof()
                assert await client.rest() == []
        assert adapter.calls == []
        async with agent.client() as client:
            for byte in line + b"\n":
                client.send_raw(bytes([byte]))
            assert (await client.receive())["payload"]["success"]
            await agent.agent.done()


async def test_a_client_that_only_stops_sending_hears_what_was_said(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        for number in range(5):
            client.send("levitate", f"r{number}")
        client.writer.write_eof()
        assert [m["payload"]["request_id"] for m in await client.rest()] == [f"r{n}" for n in range(5)]


async def test_a_request_sent_twice_on_one_connection_is_told_once(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent, agent.client() as client:
        hold = adapter.hold("create")
        client.send("deploy", "r1", **deploy_payload("d1"))
        await hold.arrived.wait()
        client.send("deploy", "r1", **deploy_payload("d1"))
        await client.until("command_response")
        await client.until("command_response")
        hold.release.set()
        await agent.agent.done()
        client.writer.write_eof()
        statuses = [m["payload"]["status"] for m in await client.rest() if m["type"] == "deploy_status"]
        assert statuses.count("running") == 1
        assert adapter.calls.count("create") == 1


async def test_a_request_sent_on_two_connections_runs_once_and_both_hear_its_end(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent, agent.client() as one, agent.client() as two:
        await agent.agent.deployed("d1")
        hold = adapter.hold("stop")
        one.send("stop", "r1", service_id="web")
        await hold.arrived.wait()
        two.send("stop", "r1", service_id="web")
        await asyncio.sleep(1)
        hold.release.set()
        answers = [await client.until("command_response", request_id="r1") for client in (one, two)]
        assert answers[0] == answers[1]
        assert answers[0]["data"]["completed"]
        assert adapter.calls.count("stop") == 1


async def test_a_client_that_goes_away_does_not_stop_its_deployment(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        async with agent.client() as client:
            client.send("deploy", "r1", **deploy_payload("d1"))
            await client.until("command_response")
        await agent.agent.done()
        assert adapter.up("web") == ["d1"]
        async with agent.client() as client:
            client.send("deploy", "r1", **deploy_payload("d1"))
            assert (await client.receive())["payload"]["success"]
            assert (await client.receive())["payload"]["status"] == "running"


class Chatty(FakeEngine):
    """Its containers never stop talking."""

    said = 0

    @asynccontextmanager
    async def logs(self, container_id: ContainerId, wanted: LogRange) -> AsyncIterator[AsyncIterator[LogLine]]:
        yield self._talk()

    async def _talk(self) -> AsyncIterator[LogLine]:
        while True:
            self.said += 1
            yield LogLine(timestamp=f"{self.said:020}", stream="stdout", message="x" * 1000)


async def test_a_client_that_reads_slowly_holds_up_its_own_log_and_nothing_else(tmp_path: Path) -> None:
    adapter = Chatty()
    async with served(tmp_path, adapter) as agent, agent.client() as client:
        await agent.agent.deployed("d1")
        client.send("logs_subscribe", "r1", service_id="web", follow=True)
        await asyncio.sleep(SEND_SECS / 2)
        held = adapter.said
        # What the client holds, our own queue, a batch too many, what the sockets hold, and the lines not yet batched.
        assert held * 1000 < 2 * CLIENT_BYTES + 5 * QUEUE_BYTES
        await asyncio.sleep(SEND_SECS / 4)
        assert adapter.said == held
        seen = 0
        while seen < 3 * held:
            payload = await client.until("log_stream")
            numbers = [int(line["timestamp"]) for line in payload["logs"]]
            assert numbers == list(range(seen + 1, seen + 1 + len(numbers)))
            seen += len(numbers)
        assert await agent.serves()


async def test_a_client_that_does_not_read_at_all_is_cut_off(tmp_path: Path) -> None:
    adapter = Chatty()
    async with served(tmp_path, adapter) as agent, agent.client() as client:
        await agent.agent.deployed("d1")
        begun = now()
        client.send("logs_subscribe", "r1", service_id="web", follow=True)
        while agent.agent.router._streams or now() == begun:
            await asyncio.sleep(1)
        assert SEND_SECS - 1 <= now() - begun <= SEND_SECS + 5
        assert not agent.local._connections


async def test_a_client_that_lets_statuses_pile_up_is_cut_off(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        client.send("restart", "r1", service_id="web")
        await client.receive()
        for _ in range(3000):
            agent.agent.reports.notify(next(iter(agent.agent.reports._listeners)), "deploy_status", {"x": "y" * 2000})
            if not agent.agent.reports._listeners:
                break
        await asyncio.sleep(1)
        assert not agent.agent.reports._listeners
        assert not agent.local._connections


async def test_more_connections_than_allowed_are_told_so_and_make_room_when_they_end(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        held = [await asyncio.open_unix_connection(agent.path) for _ in range(MAX_CONNECTIONS)]
        for _, writer in held:
            Client(_, writer).send("list_services", "r1")
        for reader, writer in held:
            assert (await Client(reader, writer).receive())["payload"]["success"]
        async with agent.client() as client:
            [message] = await client.rest()
            assert message["payload"]["error"]["code"] == "BUSY"
        for _, writer in held:
            writer.close()
        await asyncio.sleep(1)
        assert await agent.serves()


async def test_a_second_agent_on_the_socket_is_refused_and_the_first_serves_on(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        second = LocalSocket(agent.path, agent.agent.router, agent.agent.reports)
        with pytest.raises(SocketInUse, match="another agent answers there"):
            await second.open()
        await second.close()
        assert await agent.serves()


async def test_a_socket_that_a_dead_agent_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with served(tmp_path) as agent:
        assert await agent.serves()


async def test_a_path_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"
    path.parent.mkdir()
    path.write_text("precious")
    async with running(tmp_path / "data", FakeEngine()) as agent:
        with pytest.raises(AgentError, match=r"cannot listen on .*; set `socket` to another path"):
            await LocalSocket(path, agent.router, agent.reports).open()
        with pytest.raises(AgentError, match="cannot make"):
            await LocalSocket(path / "agent.sock", agent.router, agent.reports).open()
    assert path.read_text() == "precious"


CLIENT = """
    import json, os, socket, sys
    os.setgid(65534), os.setuid(65534)
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(sys.argv[1])
        except PermissionError:
            print("no permission")
            sys.exit()
        try:
            client.sendall(b'{"id": "r1", "type": "status"}' + bytes([10]))
        except OSError:
            pass
        print(client.recv(100000).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.virtual_time(False)
async def test_another_user_is_refused_by_the_file_and_by_the_credentials() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        base.chmod(0o755)
        async with served(base) as agent:
            agent.path.parent.chmod(0o755)
            assert (await _as_nobody(agent.path)).strip() == "no permission"
            agent.path.chmod(0o666)
            message = json.loads(await _as_nobody(agent.path))
            assert message["payload"]["error"]["code"] == "PERMISSION_DENIED"
            assert "user 65534" in message["payload"]["error"]["message"]


async def _as_nobody(path: Path) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", textwrap.dedent(CLIENT), str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return done.stdout


async def test_a_closing_agent_ends_its_connections(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with running(tmp_path / "data", adapter) as agent:
        path = tmp_path / "agent.sock"
        local = LocalSocket(path, agent.router, agent.reports)
        await local.open()
        await agent.deployed("d1")
        reader, writer = await asyncio.open_unix_connection(path)
        client = Client(reader, writer)
        client.send("logs_subscribe", "r1", service_id="web", follow=True)
        await client.until("log_stream")
        await local.close()
        await client.rest()
        assert not local._connections
        writer.close()


async def test_who_follows_many_logs_keeps_nobody_from_looking(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, AsyncExitStack() as stack:
        await agent.agent.deployed("d1")
        for number in range(MAX_REQUESTS):
            client = await stack.enter_async_context(agent.client())
            client.send("logs_subscribe", f"l{number}", service_id="web", follow=True)
            assert (await client.until("command_response"))["success"]
        async with agent.client() as one_more:
            one_more.send("logs_subscribe", "more", service_id="web", follow=True)
            assert (await one_more.until("command_response"))["error"]["code"] == "BUSY"
        for kind in ("status", "list_services"):
            async with agent.client() as looking:
                looking.send(kind, "q1")
                assert (await looking.until("command_response"))["success"]
        await agent.agent.send("logs_subscribe", "theirs", service_id="web", follow=True)
        await asyncio.sleep(0.1)
        [answer] = await agent.agent.responses("theirs")
        assert answer["success"], "the control plane has a share of its own"
