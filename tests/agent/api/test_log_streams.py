"""Log subscriptions: replicas merged, later ones joined, batches bounded, the engine never read ahead of the reader."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from syntra.agent.api.log_streams import (
    BATCH_LINES,
    BATCH_SECS,
    QUEUE_LINES,
    RECHECK_SECS,
    LogSubscription,
    Send,
    batches,
    selected,
)
from syntra.agent.changes import Changes
from syntra.model.command import LogsSubscribe
from syntra.model.fields import Json
from syntra.model.ids import ContainerId, DeploymentId, RequestId, ServiceId
from syntra.model.status import LogLine
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.runtime.runtime import LogRange
from tests.agent.fake_engine import FakeEngine
from tests.agent.samples import deployment
from tests.agent.virtual_time import now

pytestmark = pytest.mark.virtual_time

WEB = ServiceId("web")


def line(number: int, text: str = "") -> LogLine:
    return LogLine(timestamp=f"2026-01-01T00:00:{number:02}.000000000Z", stream="stdout", message=text or str(number))


def wanted(*, follow: bool = False, tail: int = 100, since: str | None = None) -> LogsSubscribe:
    return LogsSubscribe(request_id=RequestId("l1"), service_id=WEB, follow=follow, tail=tail, since=since, until=None)


async def engine(replicas: int) -> FakeEngine:
    adapter = FakeEngine()
    await adapter.obtain_image(deployment(), None, lambda *_: None)
    for index in range(1, replicas + 1):
        await adapter.create(deployment(), index)
    return adapter


class Sink:
    """Takes payloads."""

    def __init__(self) -> None:
        self.payloads: list[dict[str, Any]] = []
        # How many payloads it takes before it reads no more.
        self.takes = asyncio.Semaphore(10_000)

    async def send(self, payload: Mapping[str, Json]) -> None:
        await self.takes.acquire()
        self.payloads.append(dict(payload))

    @property
    def messages(self) -> list[str]:
        return [entry["message"] for payload in self.payloads for entry in payload["logs"]]


def subscription(engine: FakeEngine, command: LogsSubscribe, send: Send) -> LogSubscription:
    changes = Changes()
    engine.tell(changes.announce)
    return LogSubscription(engine, changes, command, send)


@asynccontextmanager
async def following(adapter: FakeEngine, sink: Sink, **changes: Any) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            subscription(adapter, wanted(follow=True, **changes), sink.send).run(), name="subscription"
        )
        await asyncio.sleep(1)
        yield
        task.cancel()


async def test_the_lines_of_all_replicas_are_merged_by_time_and_cut_to_the_tail() -> None:
    adapter = await engine(3)
    for offset, container in enumerate(adapter.of("web")):
        container.lines = [line(number) for number in range(offset, 30, 3)]
    sink = Sink()
    await subscription(adapter, wanted(tail=7), sink.send).run()
    assert sink.messages == [str(number) for number in range(23, 30)]
    assert [payload["done"] for payload in sink.payloads] == [False, True]
    assert sink.payloads[-1]["logs"] == []


async def test_a_line_says_which_replica_wrote_it_and_whether_it_was_cut() -> None:
    for follow in (False, True):
        adapter = await engine(2)
        one, two = adapter.of("web")
        one.lines = [line(1, "first")]
        two.lines = [LogLine(timestamp=line(2).timestamp, stream="stderr", message="second", truncated=True)]
        sink = Sink()
        if follow:
            async with following(adapter, sink):
                await asyncio.sleep(1)
        else:
            await subscription(adapter, wanted(), sink.send).run()
        said = sorted((entry for p in sink.payloads for entry in p["logs"]), key=lambda entry: str(entry["timestamp"]))
        assert [(entry["replica"], entry.get("truncated")) for entry in said] == [(1, None), (2, True)]


async def test_nothing_wanted_and_nothing_there_is_just_done() -> None:
    for replicas, tail in ((2, 0), (0, 10)):
        adapter = await engine(replicas)
        for container in adapter.of("web"):
            container.lines = [line(1)]
        sink = Sink()
        await subscription(adapter, wanted(tail=tail), sink.send).run()
        assert [(payload["logs"], payload["done"]) for payload in sink.payloads] == [([], True)]


async def test_many_lines_come_in_batches() -> None:
    adapter = await engine(1)
    adapter.of("web")[0].lines = [line(0, str(number)) for number in range(2 * BATCH_LINES + 1)]
    sink = Sink()
    await subscription(adapter, wanted(tail=10_000), sink.send).run()
    assert [len(payload["logs"]) for payload in sink.payloads] == [BATCH_LINES, BATCH_LINES, 1, 0]


@pytest.mark.parametrize("follow", [False, True])
async def test_long_lines_come_in_payloads_that_fit_a_frame(follow: bool) -> None:
    adapter = await engine(1)
    longest = "\U0001f40b" * 65_536
    adapter.of("web")[0].lines = [line(0, longest) for _ in range(60)]
    sink = Sink()
    if follow:
        async with following(adapter, sink):
            pass
    else:
        await subscription(adapter, wanted(), sink.send).run()
    assert sink.messages == [longest] * 60
    assert max(len(json.dumps(payload)) for payload in sink.payloads) < 16 * 1024 * 1024


async def test_a_subscription_follows_what_is_there_and_what_comes_later() -> None:
    adapter = await engine(2)
    one, two = adapter.of("web")
    one.lines = [line(number) for number in range(10)]
    sink = Sink()
    async with following(adapter, sink, tail=2):
        assert sink.messages == ["8", "9"]
        two.say("from two")
        adapter._announce()
        await asyncio.sleep(1)
        later, _ = await adapter.create(deployment(), 3)
        adapter.containers[later].say("first words of three")
        await asyncio.sleep(1)
        # A replica that joins is read from its first line.
        assert sink.messages == ["8", "9", "from two", "first words of three"]
        await adapter.remove(one.container_id)
        two.say("two goes on")
        adapter._announce()
        await asyncio.sleep(1)
        assert sink.messages[-1] == "two goes on"
    assert all(payload["done"] is False for payload in sink.payloads)


async def test_a_replica_whose_event_was_lost_is_found_all_the_same() -> None:
    adapter = await engine(1)
    sink = Sink()
    async with following(adapter, sink):
        announce, adapter._announce = adapter._announce, lambda: None  # type: ignore[method-assign] # loses events
        later, _ = await adapter.create(deployment(), 2)
        adapter.containers[later].say("hello")
        await asyncio.sleep(RECHECK_SECS + 1)
        adapter._announce = announce  # type: ignore[method-assign] # as it was
        assert sink.messages == ["hello"]


async def test_a_log_goes_on_from_its_last_line_when_the_engine_is_back_and_the_next_replica_is_found() -> None:
    class Breaking(FakeEngine):
        breaks = True

        @asynccontextmanager
        async def logs(self, container_id: ContainerId, wanted: LogRange) -> AsyncIterator[AsyncIterator[LogLine]]:
            async with super().logs(container_id, wanted) as lines:
                yield self._then_break(lines)

        async def _then_break(self, lines: AsyncIterator[LogLine]) -> AsyncIterator[LogLine]:
            async for found in lines:
                yield found
                if self.breaks:
                    self.breaks = False
                    raise RuntimeUnavailable("cannot finish reading: the engine went away")

    adapter = Breaking()
    await adapter.obtain_image(deployment(), None, lambda *_: None)
    first, _ = await adapter.create(deployment(), 1)
    adapter.containers[first].say("one")
    sink = Sink()
    async with following(adapter, sink):
        assert sink.messages[0] == "one"
        assert "is interrupted" in sink.messages[1]
        assert sink.payloads[-1]["logs"][-1]["stream"] == "stderr"
        assert sink.payloads[-1]["logs"][-1]["timestamp"].endswith("Z")
        adapter.away_at = set(range(len(adapter.calls), len(adapter.calls) + 3))
        await asyncio.sleep(20)
        adapter.containers[first].say("and on")
        second, _ = await adapter.create(deployment(), 2)
        adapter.containers[second].say("two")
        await asyncio.sleep(10)
        assert sink.messages.count("one") == 1
        assert {"and on", "two"} <= set(sink.messages)


async def test_an_engine_that_is_away_at_the_beginning_is_an_error() -> None:
    adapter = await engine(1)
    adapter.away = True
    for follow in (False, True):
        with pytest.raises(RuntimeUnavailable):
            await subscription(adapter, wanted(follow=follow), Sink().send).run()


async def test_what_send_raises_ends_the_subscription() -> None:
    adapter = await engine(1)
    adapter.of("web")[0].say("x")

    async def send(payload: Mapping[str, Json]) -> None:
        raise StepFailed("GONE", "the reader is gone")

    with pytest.raises(StepFailed):
        await subscription(adapter, wanted(), send).run()
    with pytest.raises(ExceptionGroup) as caught:
        await subscription(adapter, wanted(follow=True), send).run()
    assert caught.group_contains(StepFailed)


async def test_a_reader_that_stops_stops_the_reading() -> None:
    class Endless(FakeEngine):
        read = 0

        @asynccontextmanager
        async def logs(self, container_id: ContainerId, wanted: LogRange) -> AsyncIterator[AsyncIterator[LogLine]]:
            yield self._endless()

        async def _endless(self) -> AsyncIterator[LogLine]:
            while True:
                self.read += 1
                yield line(0, str(self.read))

    adapter = Endless()
    await adapter.obtain_image(deployment(), None, lambda *_: None)
    await adapter.create(deployment(), 1)
    sink = Sink()
    sink.takes = asyncio.Semaphore(0)
    async with following(adapter, sink):
        held = adapter.read
        assert held <= QUEUE_LINES + BATCH_LINES + 1
        await asyncio.sleep(100)
        assert adapter.read == held
        for _ in range(10):
            sink.takes.release()
        await asyncio.sleep(100)
        assert sink.messages == [str(number) for number in range(1, 10 * BATCH_LINES + 1)]
        assert adapter.read <= len(sink.messages) + QUEUE_LINES + BATCH_LINES + 1


async def test_a_batch_waits_a_moment_for_company_and_no_longer() -> None:
    queue: asyncio.Queue[LogLine] = asyncio.Queue()
    gathered = batches(queue)
    for number in range(3):
        queue.put_nowait(line(number))
    begun = now()
    assert [item.message for item in await anext(gathered)] == ["0", "1", "2"]
    assert now() - begun == pytest.approx(BATCH_SECS)
    for number in range(BATCH_LINES + 5):
        queue.put_nowait(line(0, str(number)))
    begun = now()
    assert len(await anext(gathered)) == BATCH_LINES
    assert now() == begun
    assert len(await anext(gathered)) == 5
    await gathered.aclose()  # type: ignore[attr-defined] # a generator


async def test_a_failed_deployment_is_read_when_nothing_runs_or_when_it_is_named() -> None:
    adapter = FakeEngine()
    for number in (1, 2):
        await adapter.obtain_image(deployment(f"d{number}"), None, lambda *_: None)
    left, _ = await adapter.create(deployment("d2"), 1)
    await adapter.start(left)
    await adapter.keep_failed(left)
    of_d1, of_d2, of_d3 = (
        dataclasses.replace(wanted(), deployment_id=DeploymentId(name)) for name in ("d1", "d2", "d3")
    )
    only = await selected(adapter, wanted())
    assert ([r.container_id for r in only.replicas], only.failed) == ([left], "d2")

    runs, _ = await adapter.create(deployment("d1"), 1)
    await adapter.start(runs)
    for command, container_id, failed in ((wanted(), runs, None), (of_d1, runs, None), (of_d2, left, "d2")):
        chosen = await selected(adapter, command)
        assert ([r.container_id for r in chosen.replicas], chosen.failed) == ([container_id], failed)
    assert (await selected(adapter, of_d3)).replicas == ()
    sink = Sink()
    await subscription(adapter, of_d2, sink.send).run()
    assert sink.messages[0].startswith("starting")

    await adapter.stop(runs, 0.0)
    chosen = await selected(adapter, wanted())
    assert ([r.container_id for r in chosen.replicas], chosen.failed) == ([left], "d2")
