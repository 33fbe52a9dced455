"""Queries for telemetry over the API: what they find, in which order, and in which portions."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from syntra.controlplane.settings import Limits
from syntra.controlplane.store import Store
from syntra.controlplane.store_thread import StoreThread
from syntra.controlplane.telemetry.blocks import Kind
from syntra.controlplane.telemetry.contract import batch as contract_batch
from syntra.controlplane.telemetry.expiry import expire_regularly
from syntra.controlplane.telemetry.store import Wanted, add_batch, blocks
from syntra.telemetry.wire import telemetry_pb2 as wire
from tests.controlplane.client import ControlPlaneClient, ControlPlaneClientError
from tests.controlplane.harness import Plane, running
from tests.controlplane.telemetry.samples import (
    START,
    batch,
    frame,
    lines,
    log_item,
    logs,
    metrics,
    trace_id,
    traces,
)
from tests.controlplane.telemetry.test_intake import agreed, answered


@contextlib.asynccontextmanager
async def filled(path: Path, *frames: bytes, limits: Limits | None = None) -> AsyncIterator[Plane]:
    """A control plane that has stored the frames of one agent."""
    async with running(path, limits=limits) as plane:
        async with agreed(plane) as agent:
            for data in frames:
                assert (await answered(agent, data))["accepted"] is True
        yield plane


async def names(plane: Plane, **fields: object) -> list[str]:
    """The numbers of the spans that a query finds."""
    spans = await plane.call(plane.client.all_telemetry, "traces", **fields)
    return [span["operation_name"].removeprefix("span ") for span in spans]


async def test_items_are_found_by_service_server_and_time(tmp_path: Path) -> None:
    frames = [
        frame("b1", traces(3, service="api", service_id="svc_1") + traces(3, service="web", first=10)),
        frame("b2", traces(3, service="web", first=20)),
    ]
    async with filled(tmp_path, *frames) as plane:
        async with agreed(plane, "srv_2") as agent:
            await answered(agent, frame("b1", traces(1, service="web", first=30)))
        assert await names(plane) == ["0", "1", "2", "10", "11", "12", "20", "21", "22", "30"]
        assert await names(plane, service="api") == await names(plane, service="svc_1") == ["0", "1", "2"]
        assert await names(plane, service="web") == ["10", "11", "12", "20", "21", "22", "30"]
        assert await names(plane, service="web", server="srv_2") == ["30"]
        assert await names(plane, service="absent") == await names(plane, server="absent") == []
        # The start belongs to the range and the end does not.
        assert await names(plane, since="2026-01-02T03:04:06Z", to="2026-01-02T03:04:16Z") == ["1", "2", "10"]
        assert await names(plane, since=START // 10**9 + 21) == ["21", "22", "30"]
        assert await names(plane, since=f"{START // 10**9}.5", to=START // 10**9 + 2, service="api") == ["1"]


async def test_a_trace_is_found_in_every_batch_that_has_a_part_of_it(tmp_path: Path) -> None:
    frames = [frame(f"b{n}", traces(300, first=n * 300)) for n in range(3)]
    frames += [frame("again", traces(301)), frame("line", logs(), wire.SIGNAL_LOGS)]
    async with filled(tmp_path, *frames) as plane:
        assert await names(plane, trace_id=trace_id(299).hex().upper()) == ["299", "299"]
        assert await names(plane, trace_id=trace_id(5000).hex()) == []
        async with agreed(plane) as agent:
            item = {**log_item(1), "trace_id": trace_id(299).hex()}
            await agent.send("telemetry_batch", batch("b", logs=[log_item(0), item]))
            await agent.expect("telemetry_ack")
        found = await plane.call(plane.client.all_telemetry, "logs", trace_id=trace_id(299).hex())
        assert [line["message"] for line in found] == ["line 1"]


@pytest.mark.parametrize("limit", [1, 7, 300, 1000])
async def test_pages_of_any_size_have_every_item_once_and_in_order(tmp_path: Path, limit: int) -> None:
    frames = [frame(f"b{n}", traces(10, first=n * 10) + traces(5, service="web")) for n in range(8)]
    async with filled(tmp_path, *frames) as plane:
        assert await names(plane, service="api", limit=limit) == [str(number) for number in range(80)]
        page = await plane.call(plane.client.telemetry, "traces", service="api", limit=limit)
        assert len(page["traces"]) == min(limit, 80)
        assert page["more"] is (limit < 80)


async def test_an_answer_stays_within_its_bytes_and_a_query_within_what_it_reads(tmp_path: Path) -> None:
    frames = [frame(f"b{n}", traces(100, first=n * 100)) for n in range(20)]
    async with filled(tmp_path, *frames, limits=replace(Limits(), answer_bytes=20_000)) as plane:
        page = await plane.call(plane.client.telemetry, "traces")
        assert 10 < len(page["traces"]) < 100
        assert len(json.dumps(page, separators=(",", ":"))) <= 20_000
        assert await names(plane) == [str(number) for number in range(2000)]
    limits = replace(Limits(), telemetry_query_bytes=1)
    async with filled(tmp_path / "other", *frames, limits=limits) as plane:
        page = await plane.call(plane.client.telemetry, "traces", since=START // 10**9 + 1950)
        # It skips what the index rules out, and answers at the first block that it has read.
        assert [span["operation_name"] for span in page["traces"]] == [f"span {n}" for n in range(1950, 2000)]
        page = await plane.call(plane.client.telemetry, "traces", trace_id=trace_id(1999).hex())
        assert page["traces"] == []
        assert page["more"] is True
        assert await names(plane, trace_id=trace_id(1999).hex()) == ["1999"]


async def test_a_cursor_continues_behind_deleted_blocks(tmp_path: Path) -> None:
    async with filled(tmp_path, *(frame(f"b{n}", traces(10, first=n * 10)) for n in range(3))) as plane:
        page = await plane.call(plane.client.telemetry, "traces", limit=5)
        await plane.sql("DELETE FROM telemetry WHERE seq <= 2")
        page = await plane.call(plane.client.telemetry, "traces", after=page["next"])
        assert [span["operation_name"] for span in page["traces"]] == [f"span {n}" for n in range(20, 30)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"limit": 0}, "limit: '0' is not a number from 1 to 1000"),
        ({"limit": 1001}, "limit: '1001' is not a number from 1 to 1000"),
        ({"limit": "x"}, "limit: 'x' is not a number"),
        ({"after": "x"}, "after: 'x' is not the `next` of an answer"),
        ({"since": "yesterday"}, "from: 'yesterday' is neither RFC 3339 nor seconds since 1970"),
        ({"to": "2026-13-01T00:00:00Z"}, "to: "),
        ({"trace_id": "0"}, "trace_id: '0' is not 32 hexadecimal digits"),
        ({"service": "x" * 257}, "service: is longer than 256 characters"),
    ],
)
async def test_a_wrong_field_is_named(tmp_path: Path, fields: dict[str, object], reason: str) -> None:
    async with running(tmp_path) as plane:
        with pytest.raises(ControlPlaneClientError) as refused:
            await plane.call(plane.client.telemetry, "traces", **fields)
        assert (refused.value.status, refused.value.code) == (400, "INVALID_PAYLOAD")
        assert str(refused.value).startswith(reason)


async def test_there_are_five_kinds_and_the_operators_token_is_needed(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        for kind in ("traces", "logs", "metrics", "errors", "health_checks"):
            assert (await plane.call(plane.client.telemetry, kind))[kind] == []
        with pytest.raises(ControlPlaneClientError) as refused:
            await plane.call(plane.client.telemetry, "profiles")
        assert refused.value.status == 404
        stranger = ControlPlaneClient(f"http://127.0.0.1:{plane.port}", "wrong")
        with pytest.raises(ControlPlaneClientError) as refused:
            await plane.call(stranger.telemetry, "traces")
        assert refused.value.status == 401


async def test_items_of_both_forms_are_in_one_list(tmp_path: Path) -> None:
    async with filled(tmp_path, frame("b1", logs(2), wire.SIGNAL_LOGS)) as plane:
        async with agreed(plane) as agent:
            await agent.send(
                "telemetry_batch", batch("b2", logs=[log_item(2), {"message": "without a time or service"}])
            )
            await agent.expect("telemetry_ack")
            await answered(agent, frame("b3", metrics(4), wire.SIGNAL_METRICS))
            errors = [{"id": "e", "service_id": "api", "timestamp": "2026-01-02T03:04:05.000Z"}]
            await answered(agent, frame("b4", lines(errors), wire.SIGNAL_ERRORS))
        found = await plane.call(plane.client.all_telemetry, "logs")
        assert [line["message"] for line in found] == ["line 0", "line 1", "line 2", "without a time or service"]
        found = await plane.call(plane.client.all_telemetry, "logs", service="api", since="2026-01-02T03:04:06Z")
        assert [line["message"] for line in found] == ["line 1", "line 2"]
        # What has no time counts as of the time when it came, which is later than the samples'.
        found = await plane.call(plane.client.all_telemetry, "logs", since="2026-01-03T00:00:00Z")
        assert [line["message"] for line in found] == ["without a time or service"]
        [error] = await plane.call(plane.client.all_telemetry, "errors", service="api", to="2026-01-02T03:04:06Z")
        assert error["id"] == "e"


async def test_a_block_of_many_services_is_found_under_each(tmp_path: Path) -> None:
    request = b"".join(traces(service=f"s{number}", first=number) for number in range(100))
    async with filled(tmp_path, frame("b1", request)) as plane:
        assert await names(plane, service="s0") == ["0"]
        assert await names(plane, service="s99") == ["99"]
        assert await names(plane, service="s100") == []


# Age


async def test_old_telemetry_is_deleted_and_its_index_with_it(tmp_path: Path) -> None:
    wanted = Wanted(kind=Kind.LOGS, server_id=None, service=None, after_ns=0, before_ns=2**62)
    async with StoreThread(tmp_path / "db", Limits(), 5.0) as store:
        for number in range(600):
            stored = contract_batch(batch(f"b{number}", logs=[log_item(0)]), 10_000, START)
            day = 1 + number // 300
            await store.run(add_batch, "srv_1", stored, 10, f"2026-01-{day:02d}T00:00:00.000Z")
        async with asyncio.TaskGroup() as group:
            expiry = expire_regularly(store, 7, lambda: "2026-01-08T12:00:00.000Z")
            task = group.create_task(expiry, name="expiry")
            async with asyncio.timeout(5):
                while len((await store.run(blocks, wanted, 0, 10**9))[0]) > 300:
                    await asyncio.sleep(0.01)
            task.cancel()
        found, _ = await store.run(blocks, wanted, 0, 10**9)
        assert {block.received_at[:10] for block in found} == {"2026-01-02"}
        assert len(found) == 300
        assert await store.run(_rows, "telemetry_services") == 300


def _rows(store: Store, table: str) -> int:
    count: int = store.database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count
