"""Logs of real containers: streams, long lines, terminals, resuming; and drops of a scripted engine."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import NotFound, StreamBroken
from syntra.runtime.docker.logs import Logs
from syntra.runtime.docker.records import LogRecord, Stream
from syntra.runtime.docker.resume import LogResume
from tests.runtime.docker.fake_engine import Peer, answer, asked
from tests.runtime.docker.scratch import Scratch, container

LONG = "seq 1 20000 | tr -d '\\n'; echo; "
LONG_LINE = "".join(str(number) for number in range(1, 20001))


async def finished(made: Scratch) -> None:
    await made.containers.wait(made.id, deadline=20)


async def read(
    logs: Logs, made: Scratch, *, resume: LogResume | None = None, tail: int | None = None
) -> list[LogRecord]:
    async with aclosing(logs.follow(made.id, follow=False, resume=resume, tail=tail)) as records:
        return [record async for record in records]


async def test_lines_of_both_streams_arrive_whole_and_are_not_read_twice(endpoint: Endpoint, image: str) -> None:
    script = f"echo first; echo second >&2; {LONG} printf last"
    async with container(endpoint, image, ["sh", "-c", script]) as made:
        await finished(made)
        logs, resume = Logs(made.client), LogResume()
        records = await read(logs, made, resume=resume)
        out = [record.message for record in records if record.stream is Stream.STDOUT]
        assert out == ["first", LONG_LINE[: 64 * 1024], "last"]
        assert [record.truncated for record in records if len(record.message) > 100] == [len(LONG_LINE) > 64 * 1024]
        assert [record.message for record in records if record.stream is Stream.STDERR] == ["second"]
        assert all(len(record.timestamp) == 30 and record.timestamp.endswith("Z") for record in records)
        assert await read(logs, made, resume=resume) == []
        assert [record.message for record in await read(logs, made, tail=1)] == ["last"]
        stamp = next(record.timestamp for record in records if len(record.message) > 100)
        async with aclosing(logs.follow(made.id, since=stamp, follow=False)) as later:
            # The engine stamps the two streams one by one: of a busy engine, `second` may be later than the long line.
            said = [record.message async for record in later if record.stream is Stream.STDOUT]
        assert said == [LONG_LINE[: 64 * 1024], "last"]


async def test_a_terminal_has_one_stream_without_carriage_returns(endpoint: Endpoint, image: str) -> None:
    script = "echo first; echo second >&2; seq 1 6000 | tr -d '\\n'; echo; printf last"
    async with container(endpoint, image, ["sh", "-c", script], Tty=True) as made:
        await finished(made)
        records = await read(Logs(made.client), made)
        whole = "".join(str(number) for number in range(1, 6001))
        assert [record.message for record in records] == ["first", "second", whole, "last"]
        assert {record.stream for record in records} == {Stream.STDOUT}
        assert all(len(record.timestamp) == 30 for record in records)


async def test_following_ends_with_the_container(endpoint: Endpoint, image: str) -> None:
    async with (
        container(endpoint, image, ["sh", "-c", "echo up; sleep 1000"]) as made,
        aclosing(Logs(made.client).follow(made.id)) as records,
        asyncio.timeout(20),
    ):
        assert (await anext(records)).message == "up"
        await made.containers.kill(made.id, "SIGKILL")
        assert [record async for record in records] == []


async def test_following_across_restarts_goes_on_and_ends_with_the_removal(endpoint: Endpoint, image: str) -> None:
    script = "echo run >> /tmp/runs; echo hello from $(cat /tmp/runs | tr -d '\\n'); exec sleep 1000"
    async with container(endpoint, image, ["sh", "-c", script]) as made:
        logs = Logs(made.client)
        async with aclosing(logs.follow_restarts(made.id, poll_secs=0.1)) as records, asyncio.timeout(30):
            assert (await anext(records)).message == "hello from run"
            await made.containers.restart(made.id, 0)
            assert (await anext(records)).message == "hello from runrun"
            await made.containers.stop(made.id, 0)
            await made.containers.start(made.id)
            assert (await anext(records)).message == "hello from runrunrun"
            await made.containers.remove(made.id, force=True)
            assert [record async for record in records] == []


async def test_only_new_lines_are_followed_when_no_tail_is_wanted(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, ["sh", "-c", "echo line; exec sleep 1000"]) as made:
        logs, checks = Logs(made.client), 0
        async with aclosing(logs.follow(made.id)) as first, asyncio.timeout(20):
            assert (await anext(first)).message == "line"

        async def is_gone() -> bool:
            nonlocal checks
            checks += 1
            if checks == 1:
                await made.containers.start(made.id)
            return False

        await made.containers.kill(made.id, "SIGKILL")
        await finished(made)
        async with (
            aclosing(logs.follow_restarts(made.id, tail=0, is_gone=is_gone, poll_secs=0.1)) as records,
            asyncio.timeout(20),
        ):
            assert (await anext(records)).message == "line"
            await made.containers.remove(made.id, force=True)
            assert [record async for record in records] == [], "the first run's line was not wanted"


async def test_logs_of_what_does_not_exist_are_not_found(endpoint: Endpoint) -> None:
    async with EngineClient(endpoint) as client:
        with pytest.raises(NotFound):
            await anext(Logs(client).follow("syntra-test-absent"))
        assert [record async for record in Logs(client).follow_restarts("syntra-test-absent")] == []


def frame(payload: bytes) -> bytes:
    return b"\x01\0\0\0" + len(payload).to_bytes(4, "big") + payload


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = frame(b"2024-05-01T12:00:01.000000001Z one\n")
PART = frame(b"2024-05-01T12:00:02.000000001Z unfinished")


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + f"{len(LINE):x}\r\n".encode() + LINE + b"\r\n",
        HEAD + LINE + PART[:20],
        HEAD + LINE + b"\x03\0\0\0\0\0\0\x04gone",
    ],
)
async def test_a_dropped_log_is_an_error_after_what_arrived(tmp_path: Path, sent: bytes) -> None:
    async def script(peer: Peer) -> None:
        while (await peer.request()).target.endswith("/json"):
            await peer.send(answer(200, {"Config": {"Tty": False}}))
        await peer.send(sent)

    async with asked(tmp_path, script) as (_, client):
        resume = LogResume()
        async with aclosing(Logs(client).follow("x", resume=resume)) as records:
            assert (await anext(records)).message == "one"
            with pytest.raises(StreamBroken):
                await anext(records)
        assert resume.since == "2024-05-01T12:00:01.000000001Z"


async def test_an_unfinished_line_at_a_drop_is_asked_for_again(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while (await peer.request()).target.endswith("/json"):
            await peer.send(answer(200, {"Config": {"Tty": False}}))
        payload = PART + b"\x02" + frame(b"2024-05-01T12:00:03.000000001Z other\n")[1:]
        await peer.send(CHUNKED + f"{len(payload):x}\r\n".encode() + payload + b"\r\n")

    async with asked(tmp_path, script) as (engine, client):
        resume = LogResume()
        with pytest.raises(StreamBroken):
            async with aclosing(Logs(client).follow("x", resume=resume)) as records:
                assert [record.message async for record in records] == ["other"]
        assert resume.since == "2024-05-01T12:00:02.000000001Z"
        with pytest.raises(StreamBroken):
            await anext(Logs(client).follow("x", resume=resume))
        assert "since=1714564802.000000001" in engine.requests[-1].target
