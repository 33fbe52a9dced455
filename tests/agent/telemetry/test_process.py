"""The agent's side of the telemetry process, against one that is played by the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from syntra.agent.telemetry.process import NoTelemetry, TelemetryProcess
from syntra.agent.telemetry.tail_queue import TailQueue
from syntra.telemetry.link import Link, Message


class PlayedServer:
    """A fork server whose workers are ends of a socket pair in the test's hands."""

    def __init__(self) -> None:
        self.workers: asyncio.Queue[Link] = asyncio.Queue()
        self.codes: asyncio.Queue[int] = asyncio.Queue()
        self.is_closed = False

    def close_workers(self) -> None:
        while not self.workers.empty():
            self.workers.get_nowait().close()

    async def spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        await self.workers.put(await Link.over(theirs))
        return ours

    async def ended(self) -> int:
        return await self.codes.get()

    def reopen_log(self) -> None:
        raise AssertionError("no test asks for it")

    async def close(self) -> None:
        self.is_closed = True

    async def started(self) -> tuple[Link, list[Message]]:
        """The next worker once it is ready, with what it was told."""
        worker = await self.workers.get()
        told = [await received(worker)]
        await worker.send("ready")
        return worker, told


async def received(worker: Link) -> Message:
    async with asyncio.timeout(5):
        message = await worker.receive()
    assert message is not None
    return message


@asynccontextmanager
async def running(server: PlayedServer, *, answer_secs: float = 5.0) -> AsyncIterator[TelemetryProcess]:
    process = TelemetryProcess(server, {"setting": 1}, answer_secs=answer_secs, backoff_secs=(0.05,))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(process.run())
        yield process
        task.cancel()
    server.close_workers()
    await asyncio.sleep(0.01)  # the transports close


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_process_is_configured_asked_and_stopped() -> None:
    server = PlayedServer()
    async with running(server) as process:
        worker, told = await server.started()
        assert told == [Message(kind="configure", fields={"setting": 1})]

        async def answer() -> None:
            question = await received(worker)
            assert question.kind == "status"
            await worker.send("answer", {"number": question.fields["number"], "kept": 5})

        async with asyncio.TaskGroup() as group:
            group.create_task(answer())
            found = await process.ask("status")
        assert found["kept"] == 5
        assert process.problem is None

        async def end() -> None:
            assert (await received(worker)).kind == "stop"
            worker.close()
            await server.codes.put(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(end())
            await process.stop()
        assert server.is_closed


async def test_a_process_that_ends_is_replaced_and_told_everything_again() -> None:
    server = PlayedServer()
    async with running(server) as process:
        worker, _ = await server.started()
        await until(lambda: process.problem is None)
        await process.tell("senders", {"senders": {"10.0.0.2": {}}})
        await process.tell("senders", {"senders": {"10.0.0.3": {}}})
        await process.tell("senders", {"senders": {"10.0.0.3": {}}})
        first = [await received(worker), await received(worker)]
        assert [message.fields["senders"] for message in first] == [{"10.0.0.2": {}}, {"10.0.0.3": {}}]
        worker.close()
        await server.codes.put(-9)
        await until(lambda: process.problem is not None)
        assert "killed by signal 9" in str(process.problem)
        again = await server.workers.get()
        told = [await received(again), await received(again)]
        assert [message.kind for message in told] == ["configure", "senders"]
        assert told[1].fields == {"senders": {"10.0.0.3": {}}}
        await again.send("ready")
        await until(lambda: process.problem is None)
        assert process.starts == 2
        await again.send("problem", {"sentence": "the disk is full"})
        await until(lambda: process.problem == "the disk is full")
        await again.send("problem", {"sentence": None})
        await until(lambda: process.problem is None)
        again.close()


async def test_questions_to_a_process_that_is_not_there_end() -> None:
    server = PlayedServer()
    async with running(server, answer_secs=0.1) as process:
        with pytest.raises(NoTelemetry, match="no answer within"):
            await process.ask("status")
        worker, _ = await server.started()

        async def leave() -> None:
            await received(worker)
            worker.close()
            await server.codes.put(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(leave())
            with pytest.raises(NoTelemetry):
                await process.ask("status")


async def test_messages_reach_their_handlers_and_tails() -> None:
    server = PlayedServer()
    async with running(server) as process:
        seen: list[Message] = []

        async def handle(message: Message) -> None:
            seen.append(message)

        process.on("batch", handle)
        worker, _ = await server.started()
        await worker.send("batch", {"batch_id": "b"}, b"data")
        await worker.send("unheard_of")
        await until(lambda: seen)
        assert seen == [Message(kind="batch", fields={"batch_id": "b"}, body=b"data")]

        shown: list[Mapping[str, Any]] = []

        async def follow() -> None:
            async for batch in process.tail({"service": "web", "signal": ""}):
                shown.append(batch)
                return

        async with asyncio.TaskGroup() as group:
            group.create_task(follow())
            begin = await received(worker)
            assert begin.fields == {"service": "web", "signal": "", "number": begin.fields["number"]}
            await worker.send("tail", {"number": 999, "items": []})
            await worker.send("tail", {"number": begin.fields["number"], "items": [{"line": "x"}], "missed": 0})
        assert [batch["items"] for batch in shown] == [[{"line": "x"}]]
        assert (await received(worker)).kind == "end_tail"
        worker.close()


async def test_a_view_ends_when_its_process_ends() -> None:
    server = PlayedServer()
    async with running(server) as process:
        worker, _ = await server.started()
        seen: list[Mapping[str, Any]] = []

        async def follow() -> None:
            async for batch in process.tail({"service": "", "signal": ""}):
                seen.append(batch)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(end_of(follow()))
            number = (await received(worker)).fields["number"]
            await worker.send("tail", {"number": number, "items": [{"line": "x"}], "missed": 0})
            await until(lambda: seen)
            worker.close()
            await server.codes.put(-9)
        assert task.result() == "cannot show more telemetry: the telemetry process has ended; try again"
        # The next process is not asked to show anything.
        again = await server.workers.get()
        assert (await received(again)).kind == "configure"
        again.close()


async def test_a_view_of_a_process_that_is_not_there_ends() -> None:
    server = PlayedServer()
    async with running(server, answer_secs=0.1) as process:

        async def follow() -> None:
            async for _ in process.tail({}):
                raise AssertionError("nothing can come")

        assert "gave no answer within 0.1 s" in await end_of(follow())


async def test_a_process_that_ends_before_it_is_ready_has_never_been_well() -> None:
    server = PlayedServer()
    async with running(server, answer_secs=0.3) as process:

        async def follow() -> None:
            async for _ in process.tail({}):
                raise AssertionError("nothing can come")

        async with asyncio.TaskGroup() as group:
            task = group.create_task(end_of(follow()))
            for _ in range(2):
                worker = await server.workers.get()
                await received(worker)
                worker.close()
                await server.codes.put(1)
                await until(lambda: process.problem is not None)
        assert "it ended with exit code 1" in task.result()
        assert process.problem is not None


async def end_of(work: Coroutine[Any, Any, None]) -> str:
    """The sentence with which it ends."""
    with pytest.raises(NoTelemetry) as ended:
        await work
    return str(ended.value)


async def test_what_a_slow_view_misses_is_counted() -> None:
    queue = TailQueue(most=3)
    for number in range(5):
        queue.put({"number": 1, "items": [{"line": f"{number}"}, {"line": "y"}], "missed": 10 * number})
    first = [await queue.get() for _ in range(3)]
    assert [fields["missed"] for fields in first if fields] == [0, 10, 20]
    queue.put({"number": 1, "items": [], "missed": 0})
    queue.put({"number": 1, "items": [], "missed": 1})
    then = [await queue.get() for _ in range(2)]
    assert [fields["missed"] for fields in then if fields] == [2 + 30 + 2 + 40, 1]
    for _ in range(5):
        queue.put({"number": 1, "items": [], "missed": 0})
    queue.end()
    assert [fields is None for fields in [await queue.get() for _ in range(4)]] == [False, False, False, True]
