"""The lines of pods across the ends of their streams."""

from __future__ import annotations

import asyncio
from pathlib import Path

from syntra.runtime.kubernetes.cluster import Cluster
from syntra.runtime.kubernetes.logs import PodLogs
from syntra.runtime.kubernetes.pods import pod_id
from syntra.runtime.runtime import LogRange
from tests.runtime.kubernetes.fake_api import answer, client_of, fake_api, pod, refusal

POD = pod_id("shop", "web-1")
FIRST, SECOND, LAST = (f"2026-11-30T10:00:0{n}.000000001Z line {n}" for n in (1, 2, 3))


async def read(folder: Path, *replies: bytes) -> tuple[list[str], list[str]]:
    """The lines that a follower gets until the pod is gone, and the requests."""
    async with fake_api(*replies) as api, client_of(api, folder) as client:
        logs = PodLogs(Cluster(client, owner="agt"))
        async with asyncio.timeout(20), logs.logs(POD, LogRange(tail=100, follow=True)) as lines:
            found = [line.message async for line in lines]
        return found, api.lines


async def test_a_stream_that_ends_goes_on_where_it_ended_and_nothing_comes_twice(tmp_path: Path) -> None:
    there, gone = answer(pod("web-1", 1)), refusal(404, "NotFound")
    whole, again = f"{FIRST}\n{SECOND}\n", f"{SECOND}\n{LAST}\n"
    found, requests = await read(tmp_path, answer(whole), there, answer(again), gone)
    assert found == ["line 1", "line 2", "line 3"]
    assert "tailLines=100" in requests[0] and "sinceTime=2026-11-30T10" in requests[2]


async def test_a_last_line_without_an_end_comes_once(tmp_path: Path) -> None:
    there, gone = answer(pod("web-1", 1)), refusal(404, "NotFound")
    found, _ = await read(tmp_path, answer(f"{FIRST}\n{SECOND}"), there, answer(SECOND), there, answer(SECOND), gone)
    assert found == ["line 1", "line 2"]


async def test_lines_of_one_moment_are_counted(tmp_path: Path) -> None:
    there, gone = answer(pod("web-1", 1)), refusal(404, "NotFound")
    twin = FIRST.replace("line 1", "its twin")
    found, _ = await read(tmp_path, answer(f"{FIRST}\n{twin}\n"), there, answer(f"{FIRST}\n{twin}\n{LAST}\n"), gone)
    assert found == ["line 1", "its twin", "line 3"]


async def test_what_the_kubelet_says_of_a_log_that_is_gone_is_no_line(tmp_path: Path) -> None:
    gone = refusal(404, "NotFound")
    found, _ = await read(tmp_path, answer(f"{FIRST}\nunable to retrieve container logs for containerd://x\n"), gone)
    assert found == ["line 1"]
