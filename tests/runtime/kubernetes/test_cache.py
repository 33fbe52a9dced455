"""The cache of watched objects survives what happens to watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from syntra.runtime.kubernetes.cache import ObjectCache
from syntra.runtime.kubernetes.objects import Object
from syntra.runtime.kubernetes.resources import POD
from tests.runtime.kubernetes.fake_api import (
    WATCH,
    Reply,
    Request,
    answer,
    chunk,
    client_of,
    event,
    fake_api,
    pod,
    pods,
    refusal,
    silence,
)

WAIT_SECS = 5.0


class Watched:
    """A cache on a scripted server, and the changes that it told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str | None, str | None]] = []
        self.lines: list[str] = []
        self.cache: ObjectCache | None = None

    def changed(self, before: Object | None, after: Object | None) -> None:
        self.changes.append((_version(before), _version(after)))

    @property
    def names(self) -> list[str]:
        assert self.cache is not None
        return sorted(name for _, name in self.cache.objects)


def _version(obj: Any) -> str | None:
    return None if obj is None else f"{obj['metadata']['name']}@{obj['metadata']['resourceVersion']}"


@asynccontextmanager
async def watched(folder: Path, *replies: Reply, silence_secs: float = 30.0) -> AsyncIterator[Watched]:
    """Runs the cache until the server has no reply left; then a last watch stays open."""
    async with fake_api(*replies, stay) as api, client_of(api, folder) as client, asyncio.TaskGroup() as group:
        seen = Watched()
        seen.cache = ObjectCache(client, POD, "a=b", seen.changed, silence_secs=silence_secs)
        running = group.create_task(seen.cache.run(), name="cache")
        async with asyncio.timeout(WAIT_SECS):
            while api.replies:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        seen.lines = api.lines
        yield seen
        running.cancel()


async def stay(request: Request) -> None:
    await request.send(WATCH)
    await silence(request)


def watch_of(*parts: bytes, ends: bytes = b"0\r\n\r\n") -> Reply:
    """A watch that sends these and ends."""

    async def reply(request: Request) -> None:
        await request.send(WATCH + b"".join(parts) + ends)

    return reply


def since(line: str) -> str:
    return line.partition("resourceVersion=")[2].partition("&")[0]


async def test_a_list_and_then_its_changes(tmp_path: Path) -> None:
    changes = watch_of(event("ADDED", "b", 11), event("MODIFIED", "a", 12), event("DELETED", "b", 13))
    async with watched(tmp_path, pods(10, pod("a", 1)), changes) as seen:
        assert seen.changes == [(None, "a@1"), (None, "b@11"), ("a@1", "a@12"), ("b@11", None)]
        assert seen.names == ["a"] and seen.cache is not None and seen.cache.relists == 1
        assert [since(line) for line in seen.lines[1:]] == ["10", "13"], "the next watch begins where the last ended"


async def test_a_bookmark_moves_the_place_and_changes_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path, pods(10), watch_of(event("BOOKMARK", "", 99))) as seen:
        assert seen.changes == [] and since(seen.lines[-1]) == "99"


async def test_a_place_that_is_forgotten_means_a_new_list_with_the_changes_in_between(tmp_path: Path) -> None:
    gone = chunk(b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n')
    for forgotten in (watch_of(gone), refusal(410, "Expired")):
        after = pods(20, pod("b", 2), pod("c", 15))
        async with watched(tmp_path, pods(10, pod("a", 1), pod("b", 2)), forgotten, after) as seen:
            assert seen.changes[2:] == [("a@1", None), (None, "c@15")], "what did not change is not told"
            assert seen.names == ["b", "c"] and since(seen.lines[-1]) == "20"
            assert seen.cache is not None and (seen.cache.relists, seen.cache.problem) == (2, "")


async def test_a_watch_that_is_cut_inside_an_event_goes_on_behind_the_last_whole_one(tmp_path: Path) -> None:
    whole, half = event("ADDED", "a", 11), event("ADDED", "b", 12)
    for cut in range(0, len(half), 7):
        async with watched(tmp_path, pods(10), watch_of(whole, half[:cut], ends=b"")) as seen:
            assert since(seen.lines[-1]) == "11" and seen.names == ["a"]
            assert seen.cache is not None and seen.cache.relists == 1


async def test_a_half_open_watch_is_left_after_its_silence(tmp_path: Path) -> None:
    async with watched(tmp_path, pods(10), stay, silence_secs=0.3) as seen:
        assert [since(line) for line in seen.lines[1:3]] == ["10", "10"]
        assert seen.cache is not None and seen.cache.relists == 1


async def test_a_list_that_is_refused_or_fails_is_tried_again_and_said_meanwhile(tmp_path: Path) -> None:
    problems: list[str] = []

    async with fake_api(
        refusal(403, "Forbidden", "pods is forbidden"), answer("busy", 503), pods(10, pod("a", 1)), stay
    ) as api:
        async with client_of(api, tmp_path) as client, asyncio.TaskGroup() as group:
            cache = ObjectCache(client, POD, "a=b", lambda before, after: problems.append(cache.problem))
            running = group.create_task(cache.run(), name="cache")
            async with asyncio.timeout(WAIT_SECS):
                while "forbidden" not in cache.problem:
                    await asyncio.sleep(0.01)
                assert not cache.is_listed
                await cache.listed()
                while cache.problem:
                    await asyncio.sleep(0.01)
            running.cancel()
        assert len(problems) == 1


async def test_a_line_that_is_no_json_means_a_new_list_and_ends_nothing(tmp_path: Path) -> None:
    for garbled in (b"<html>\n", b'{"type":\n'):
        replies = (pods(10, pod("a", 1)), watch_of(event("ADDED", "b", 11), chunk(garbled)), pods(20, pod("c", 15)))
        async with watched(tmp_path, *replies) as seen:
            assert seen.names == ["c"] and since(seen.lines[-1]) == "20"
            assert seen.cache is not None and (seen.cache.relists, seen.cache.problem) == (2, "")


async def test_a_watch_that_ends_at_once_is_not_asked_for_all_the_time(tmp_path: Path) -> None:
    async def ends(request: Request) -> None:
        await request.send(WATCH + b"0\r\n\r\n")

    async with fake_api(pods(10), *[ends] * 1000) as api:
        async with client_of(api, tmp_path) as client, asyncio.TaskGroup() as group:
            cache = ObjectCache(client, POD, "a=b", lambda before, after: None)
            running = group.create_task(cache.run(), name="cache")
            await asyncio.sleep(1.0)
            running.cancel()
        assert 2 <= len(api.requests) < 15, "without a pause there are hundreds"
