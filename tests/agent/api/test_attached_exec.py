"""An exec with streams over a real unix socket: bytes through, bounds on both sides, and its end with its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from syntra.agent.api.local_socket import QUEUE_BYTES
from syntra.model import exec_frames
from syntra.model.exec_frames import WINDOW_BYTES, ExecFrame, ExecFrames, FrameKind, credit_of, encoded, end_of
from syntra.model.ids import RequestId
from tests.agent.api.test_local_socket import CLIENT_BYTES, Client, Served, served
from tests.agent.fake_engine import FakeEngine

pytestmark = pytest.mark.virtual_time

WAIT_SECS = 5.0


class Exec:
    """The client's side after the acceptance."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._frames = ExecFrames()
        self._came: list[ExecFrame] = []

    def send(self, kind: FrameKind, payload: bytes = b"") -> None:
        self._client.send_raw(encoded(kind, payload))

    async def next(self) -> ExecFrame | None:
        """The next frame; None when the agent has closed the connection."""
        while not self._came:
            data = await self._client.reader.read(65536)
            if not data:
                return None
            self._came += self._frames.feed(data)
        return self._came.pop(0)

    async def to_the_end(self) -> tuple[bytes, bytes, dict[str, object]]:
        """Both outputs, and how it ended."""
        output = {FrameKind.STDOUT: b"", FrameKind.STDERR: b""}
        while (frame := await self.next()) is not None:
            if frame.kind is FrameKind.EXIT:
                assert await self.next() is None, "nothing follows the end"
                return output[FrameKind.STDOUT], output[FrameKind.STDERR], end_of(frame)
            if frame.kind in output:
                output[frame.kind] += frame.payload
        raise AssertionError("the agent closed the connection before the end")


@asynccontextmanager
async def attached(agent: Served, *command: str, **payload: object) -> AsyncIterator[Exec]:
    async with agent.client() as client:
        client.send("exec", "x1", service_id="web", command=list(command), stream=True, **payload)
        answer = await client.until("command_response", request_id="x1")
        assert answer["data"]["attached"] is True
        assert answer["data"]["replica"] == 1
        yield Exec(client)


async def test_both_outputs_and_the_exit_code_arrive(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "both") as running:
            assert await running.to_the_end() == (b"out\n", b"err\n", {"exit_code": 0})
        remembered = await agent.agent.journal.find(RequestId("x1"))
        assert remembered is not None
        assert remembered.response == {
            "request_id": "x1",
            "success": True,
            "data": {"exit_code": 0, "stdout": "", "stderr": "", "output_forgotten": True},
        }


async def test_input_comes_back_and_its_end_is_the_commands_end(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "cat", stdin=True) as running:
            for byte in b"hello":
                running.send(FrameKind.INPUT, bytes([byte]))
            running.send(FrameKind.INPUT_END)
            assert await running.to_the_end() == (b"hello", b"", {"exit_code": 0})


async def test_a_client_that_sends_no_more_than_its_credit_may_send_any_amount(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "cat", stdin=True) as running:
            credit, left, came, total = WINDOW_BYTES, 8 * WINDOW_BYTES, 0, 8 * WINDOW_BYTES
            while came < total:
                while credit and left:
                    count = min(credit, left, 65536)
                    running.send(FrameKind.INPUT, b"x" * count)
                    credit, left = credit - count, left - count
                frame = await running.next()
                assert frame is not None
                if frame.kind is FrameKind.CREDIT:
                    credit += credit_of(frame)
                else:
                    came += len(frame.payload)
            running.send(FrameKind.INPUT_END)
            assert (await running.to_the_end())[2] == {"exit_code": 0}


async def test_a_command_that_takes_no_input_holds_no_more_than_the_window(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "hang", stdin=True) as running:
            for _ in range(WINDOW_BYTES // 65536):
                running.send(FrameKind.INPUT, b"x" * 65536)
            await asyncio.sleep(1)
            [session] = adapter.sessions
            assert session.taken <= WINDOW_BYTES
            assert not session.has_ended
            # The agent reads on, so it notices the client that leaves.
        await asyncio.sleep(1)
        assert session.has_ended


async def test_output_waits_for_a_client_that_does_not_read_for_as_long_as_it_is_there(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "yes") as running:
            await asyncio.sleep(10)
            [session] = adapter.sessions
            held = session.given
            assert held < 2 * CLIENT_BYTES + 4 * QUEUE_BYTES
            await asyncio.sleep(3600)
            assert (session.given, session.has_ended) == (held, False)
            seen = 0
            while seen < 2 * held:
                frame = await running.next()
                assert frame is not None
                seen += len(frame.payload)
        await asyncio.sleep(1)
        assert session.has_ended


@pytest.mark.parametrize(
    "bad",
    [
        b"\x09\0\0\0\0",
        encoded(FrameKind.STDOUT, b"x"),
        encoded(FrameKind.RESIZE, b"x"),
        encoded(FrameKind.INPUT, b"x" * 65536) * (3 * WINDOW_BYTES // 65536),
    ],
)
async def test_a_client_that_breaks_the_protocol_is_cut_off(tmp_path: Path, bad: bytes) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        await agent.agent.deployed("d1")
        async with agent.client() as client:
            client.send("exec", "x1", service_id="web", command=["hang"], stream=True, stdin=True)
            await client.until("command_response", request_id="x1")
            client.send_raw(bad)
            async with asyncio.timeout(WAIT_SECS):
                # What it sent and the agent did not read any more makes the end a reset.
                with suppress(ConnectionResetError):
                    await client.reader.read()
        await asyncio.sleep(1)
        assert adapter.sessions[0].has_ended
        async with agent.client() as other:
            other.send("status", "r1")
            assert (await other.receive())["payload"]["success"]


async def test_a_terminal_is_resized_to_the_newest_size(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "cat", stdin=True, tty=True, rows=24, columns=80) as running:
            await asyncio.sleep(1)
            running.send(FrameKind.RESIZE, exec_frames.resize(30, 90)[exec_frames.HEADER_BYTES :])
            running.send(FrameKind.RESIZE, exec_frames.resize(31, 91)[exec_frames.HEADER_BYTES :])
            await asyncio.sleep(1)
            running.send(FrameKind.INPUT_END)
            await running.to_the_end()
        sizes = adapter.sessions[0].sizes
        assert (sizes[0], sizes[-1]) == ((24, 80), (31, 91))


async def test_a_timeout_ends_the_command_and_says_so_behind_the_output(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "cat", stdin=True, timeout_seconds=5) as running:
            running.send(FrameKind.INPUT, b"before")
            stdout, _, end = await running.to_the_end()
        assert stdout == b"before"
        error = end["error"]
        assert isinstance(error, dict)
        assert error["code"] == "EXEC_TIMEOUT"
        assert adapter.sessions[0].has_ended


async def test_what_cannot_start_is_refused_before_any_frame(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent, agent.client() as client:
        client.send("exec", "x1", service_id="web", command=["cat"], stream=True)
        answer = await client.until("command_response", request_id="x1")
        assert answer["error"]["code"] == "CONTAINER_NOT_FOUND"
        assert await client.rest() == []


async def test_a_repeated_id_is_answered_and_not_run_again(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "exit", "3") as running:
            assert (await running.to_the_end())[2] == {"exit_code": 3}
        async with agent.client() as client:
            client.send("exec", "x1", service_id="web", command=["exit", "3"], stream=True)
            answer = await client.until("command_response", request_id="x1")
            assert (answer["data"]["exit_code"], answer["data"]["output_forgotten"]) == (3, True)
        assert len(adapter.sessions) == 1


async def test_streams_need_a_connection_of_their_own(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        await agent.agent.deployed("d1")
        async with agent.client() as client:
            client.send("status", "r1")
            await client.until("command_response", request_id="r1")
            client.send("exec", "x1", service_id="web", command=["cat"], stream=True)
            answer = await client.until("command_response", request_id="x1")
            assert answer["error"]["code"] == "INVALID_PAYLOAD"
            client.send("status", "r2")
            assert (await client.until("command_response", request_id="r2"))["success"]


async def test_the_agents_end_ends_the_command(tmp_path: Path) -> None:
    adapter = FakeEngine()
    async with served(tmp_path, adapter) as agent:
        await agent.agent.deployed("d1")
        async with attached(agent, "cat", stdin=True) as running:
            agent.agent.router.cancel_requests()
            assert await running.next() is None
        assert adapter.sessions[0].has_ended
        remembered = await agent.agent.journal.find(RequestId("x1"))
        assert remembered is not None and remembered.response is not None
        assert remembered.response["error"] == {
            "code": "INTERRUPTED",
            "message": "cannot tell how the command ended: its client left, or the agent stopped",
        }
