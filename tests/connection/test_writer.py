"""The order in which frames leave, against a recording socket and a real in-memory outbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from syntra.connection.errors import NotConnected, UnencodableMessage
from syntra.connection.undelivered import TOO_BIG
from syntra.connection.writer import CONTROL_MAX, OUTBOX_BATCH, Writer
from tests.connection.rig import MemoryOutbox


class Wire:
    """A socket that records, and that takes frames only while `open` is set."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False
        self.deaf = False
        self.busy = asyncio.Event()
        self.changed = asyncio.Condition()

    async def send(self, text: str | bytes) -> None:
        self.busy.set()
        await self.open.wait()
        if self.broken:
            raise NotConnected("broken")
        async with self.changed:
            self.sent.append(text)
            self.changed.notify_all()

    async def probe(self) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: not self.deaf)

    async def hear(self) -> None:
        async with self.changed:
            self.deaf = False
            self.changed.notify_all()

    async def until(self, count: int) -> list[str | bytes]:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.sent) >= count)
        return self.sent


@asynccontextmanager
async def writing(writer: Writer, wire: Wire) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:

        async def run() -> None:
            try:
                await writer.run(wire.send)
            except NotConnected:
                writer.end("the connection broke")

        tasks = [
            group.create_task(run(), name="write"),
            group.create_task(writer.watch(), name="watch"),
            group.create_task(writer.confirm(wire.probe), name="confirm"),
        ]
        yield
        for task in tasks:
            task.cancel()


def make(outbox: MemoryOutbox, *, stream_limit: int = 2, max_frame_bytes: int = 1000) -> Writer:
    return Writer(outbox, max_frame_bytes=max_frame_bytes, stream_limit=stream_limit)


def begun(*texts: str, stream_limit: int = 2, held: bool = True) -> tuple[MemoryOutbox, Wire, Writer]:
    """A writer of an accepted connection, and a wire that takes nothing while it is `held`."""
    outbox, wire = MemoryOutbox(*texts), Wire()
    writer = make(outbox, stream_limit=stream_limit)
    writer.ready()
    if held:
        wire.open.clear()
    return outbox, wire, writer


async def test_only_control_leaves_before_ready() -> None:
    outbox, wire = MemoryOutbox("result"), Wire()
    writer = make(outbox)
    async with writing(writer, wire):
        writer.heartbeat("heartbeat")
        writer.check_outbox()
        writer.control("hello")
        assert await wire.until(1) == ["hello"]
        with pytest.raises(NotConnected):
            await writer.stream("telemetry")
        writer.ready()
        assert await wire.until(2) == ["hello", "result"]
        await outbox.empty.wait()


async def test_lanes_leave_in_order_of_priority() -> None:
    outbox, wire = MemoryOutbox("r1", "r2"), Wire()
    writer = make(outbox)
    wire.open.clear()
    async with asyncio.TaskGroup() as group, writing(writer, wire):
        writer.control("hello")
        await wire.busy.wait()
        writer.ready()
        stream = group.create_task(writer.stream("telemetry"), name="stream")
        writer.heartbeat("heartbeat")
        writer.control("pong")
        await asyncio.sleep(0)
        wire.open.set()
        assert await wire.until(6) == ["hello", "pong", "r1", "r2", "heartbeat", "telemetry"]
        await stream


async def test_a_long_outbox_lets_a_heartbeat_out_between_two_batches() -> None:
    count = 4 * OUTBOX_BATCH
    outbox, wire = MemoryOutbox(*(f"r{n}" for n in range(count))), Wire()
    writer = make(outbox)
    wire.open.clear()
    async with writing(writer, wire):
        writer.control("hello")
        await wire.busy.wait()
        writer.ready()
        writer.heartbeat("heartbeat")
        wire.open.set()
        sent = await wire.until(count + 2)
    assert sent.index("heartbeat") == 1 + OUTBOX_BATCH
    assert [text for text in sent if str(text).startswith("r")] == [f"r{n}" for n in range(count)]
    assert max(outbox.fetches) <= OUTBOX_BATCH


async def test_an_item_is_taken_only_after_it_left() -> None:
    outbox, wire, writer = begun("r1", "r2")
    async with writing(writer, wire):
        await wire.busy.wait()
        assert set(outbox.items) == {1, 2}
        wire.open.set()
        await outbox.empty.wait()
    assert wire.sent == ["r1", "r2"]


async def test_an_item_is_taken_only_after_the_peer_read_it_and_at_most_a_batch_is_under_way() -> None:
    count = 2 * OUTBOX_BATCH
    outbox, wire = MemoryOutbox(*(f"r{n}" for n in range(count))), Wire()
    wire.deaf = True
    writer = make(outbox)
    writer.ready()
    async with writing(writer, wire):
        await wire.until(OUTBOX_BATCH)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(wire.sent) == OUTBOX_BATCH
        assert len(outbox.items) == count
        assert len(outbox.fetches) < 5, "nobody polls while items are under way"
        await wire.hear()
        await outbox.empty.wait()
    assert wire.sent == [f"r{n}" for n in range(count)]


async def test_what_left_but_was_not_read_is_sent_again_on_the_next_connection() -> None:
    outbox, first, second = MemoryOutbox("r1", "r2"), Wire(), Wire()
    first.deaf = True
    writer = make(outbox)
    writer.ready()
    async with writing(writer, first):
        await first.until(2)
    writer.end("the link died")
    assert set(outbox.items) == {1, 2}
    writer.begin()
    async with writing(writer, second):
        writer.ready()
        await second.until(2)
        await outbox.empty.wait()
    assert second.sent == ["r1", "r2"]


async def test_what_did_not_leave_is_sent_again_on_the_next_connection() -> None:
    outbox, first, second = MemoryOutbox("r1", "r2"), Wire(), Wire()
    writer = make(outbox)
    writer.ready()
    first.open.clear()
    async with writing(writer, first):
        await first.busy.wait()
        first.broken = True
        first.open.set()
    assert set(outbox.items) == {1, 2}
    writer.begin()
    async with writing(writer, second):
        writer.ready()
        assert await second.until(2) == ["r1", "r2"]


async def test_new_items_are_sent_as_they_come() -> None:
    outbox, wire, writer = begun(held=False)
    async with writing(writer, wire):
        for number in range(20):
            outbox.add(f"r{number}")
            await wire.until(number + 1)
    assert wire.sent == [f"r{number}" for number in range(20)]


def answer(size: int) -> str:
    return json.dumps({"type": "command_response", "payload": {"request_id": "r1", "data": "x" * size}})


async def test_an_item_larger_than_a_frame_becomes_a_short_failure_in_its_place() -> None:
    outbox, wire = MemoryOutbox("before", answer(6000), "behind"), Wire()
    writer = make(outbox, max_frame_bytes=5000)
    writer.ready()
    async with writing(writer, wire):
        before, short, behind = await wire.until(3)
        await outbox.empty.wait()
    assert (before, behind) == ("before", "behind")
    assert json.loads(short)["payload"]["error"]["code"] == "ANSWER_TOO_LARGE"


async def test_items_under_way_at_a_close_go_one_by_one_with_nothing_beside_them() -> None:
    outbox, wire = MemoryOutbox("one", "two"), Wire()
    writer = make(outbox)
    wire.deaf = True
    writer.ready()
    async with writing(writer, wire):
        await wire.until(2)
    writer.end("closed")
    await writer.closed(1011)
    writer.begin()
    wire.sent.clear()
    writer.ready()
    async with writing(writer, wire):
        await wire.until(1)
        writer.heartbeat("heartbeat")
        writer.control("pong")
        assert await wire.until(2) == ["one", "pong"]
        await wire.hear()
        await wire.until(4)
        await outbox.empty.wait()
    assert wire.sent[:3] == ["one", "pong", "two"]
    assert outbox.replaced == []


async def test_the_item_that_is_being_sent_when_the_peer_closes_is_the_one_to_blame() -> None:
    outbox, wire = MemoryOutbox(answer(6000), "behind"), Wire()
    writer = make(outbox, max_frame_bytes=10_000)
    wire.broken = True
    for _ in range(2):
        writer.begin()
        wire.busy.clear()
        writer.ready()
        async with writing(writer, wire):
            await wire.busy.wait()
        await writer.closed(TOO_BIG)
    assert outbox.replaced == [1]
    writer.begin()
    wire.broken = False
    writer.ready()
    async with writing(writer, wire):
        short, behind = await wire.until(2)
    assert json.loads(short)["payload"]["error"]["code"] == "ANSWER_TOO_LARGE"
    assert behind == "behind"


async def test_a_heartbeat_is_dropped_while_the_previous_one_has_not_left() -> None:
    _, wire, writer = begun()
    async with writing(writer, wire):
        writer.heartbeat("h1")
        await wire.busy.wait()
        writer.heartbeat("h2")
        assert writer.skipped_heartbeats == 1
        wire.open.set()
        await wire.until(1)
        await asyncio.sleep(0)
        writer.heartbeat("h3")
        assert await wire.until(2) == ["h1", "h3"]


async def test_a_full_stream_makes_its_senders_wait_in_order() -> None:
    _, wire, writer = begun(stream_limit=2)
    async with asyncio.TaskGroup() as group, writing(writer, wire):
        senders = [group.create_task(writer.stream(f"s{n}"), name=f"s{n}") for n in range(8)]
        await wire.busy.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(writer._stream) == 2
        assert not any(task.done() for task in senders)
        wire.open.set()
        await wire.until(8)
    assert sorted(wire.sent) == [f"s{n}" for n in range(8)]


async def test_waiting_senders_are_told_when_the_connection_ends() -> None:
    _, wire, writer = begun(stream_limit=2)
    outcomes: list[str] = []

    async def sender(text: str) -> None:
        try:
            await writer.stream(text)
        except NotConnected as exc:
            outcomes.append(str(exc))

    async with writing(writer, wire), asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(sender(f"s{number}"), name=f"s{number}")
        await wire.busy.wait()
        wire.broken = True
        wire.open.set()
    assert len(outcomes) == 6


async def test_a_cancelled_sender_withdraws_its_frame() -> None:
    _, wire, writer = begun(stream_limit=4)
    async with asyncio.TaskGroup() as group, writing(writer, wire):
        first = group.create_task(writer.stream("first"), name="first")
        second = group.create_task(writer.stream("second"), name="second")
        await wire.busy.wait()
        second.cancel()
        await asyncio.wait({second})
        wire.open.set()
        await first
        await writer.stream("third")
    assert wire.sent == ["first", "third"]


async def test_a_message_larger_than_a_frame_is_refused_at_once() -> None:
    writer = make(MemoryOutbox())
    writer.ready()
    with pytest.raises(UnencodableMessage, match="larger than 1000 bytes"):
        await writer.stream("x" * 1001)


async def test_a_flood_of_pings_earns_no_memory() -> None:
    writer = make(MemoryOutbox())
    for _ in range(CONTROL_MAX + 10):
        writer.control("pong")
    assert writer.dropped_pongs == 10


# Translated


async def test_an_item_is_translated_when_it_is_sent_and_one_that_becomes_nothing_counts_as_sent() -> None:
    outbox, wire = MemoryOutbox("drop", "keep", "double"), Wire()
    frames = {"drop": (), "keep": ("keep",), "double": ("one", "two")}
    asked: list[str] = []

    def translate(text: str) -> tuple[str, ...]:
        asked.append(text)
        return frames[text]

    writer = Writer(outbox, max_frame_bytes=1000, stream_limit=4, translate=translate)
    async with writing(writer, wire):
        assert asked == []
        writer.ready()
        assert await wire.until(3) == ["keep", "one", "two"]
        async with asyncio.timeout(5):
            while await outbox.pending(10):
                await asyncio.sleep(0)
    assert asked == ["drop", "keep", "double"]
