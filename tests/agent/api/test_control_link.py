"""The agent's side of the connection, against a WebSocket server on loopback and a fake engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection

from syntra.agent.api import control_link
from syntra.agent.api.control_link import ControlLink
from syntra.agent.api.dialect_door import DialectDoor
from syntra.agent.api.queries import Identity
from syntra.agent.api.router import Router
from syntra.agent.config.settings import ControlPlaneSettings, Settings, TelemetrySettings
from syntra.agent.health.results import HealthResult, HealthResults
from syntra.agent.journal.database import JournalError
from syntra.agent.journal.dialects import RememberedDialects
from syntra.agent.messages import PeerGone, envelope
from syntra.connection.messages import TelemetryAck
from syntra.health.result import ProbeResult
from syntra.model.fields import Json
from syntra.model.ids import ServiceId
from syntra.utils.structured_log import LogHandle
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine
from tests.connection.rig import ControlPlane, frame, get
from tests.contract.shapes import TELEMETRY_BATCH


@asynccontextmanager
async def linked(
    directory: Path,
    plane: ControlPlane,
    agent: Agent,
    adapter: FakeEngine,
    router: object = None,
    results: HealthResults | None = None,
    dialect: str = "auto",
    extensions: Sequence[str] = (),
    acks: asyncio.Queue[TelemetryAck] | None = None,
) -> AsyncIterator[ControlLink]:
    """The agent's router, or another, linked to the control plane."""
    control_plane = ControlPlaneSettings(endpoint=plane.endpoint(), token="syn_agt_x")
    link = ControlLink(
        Settings(data_dir=directory, control_plane=control_plane, telemetry=TelemetrySettings(batch_interval_secs=1)),
        Identity(agent_id="agt_1", server_id="srv_1", data_dir=directory, started_at=0.0),
        runtime=adapter,
        views=agent.views,
        sampler=agent.sampler,
        outbox=agent.journal.outbox,
        door=DialectDoor(dialect, plane.endpoint(), RememberedDialects(agent.journal._database)),
        log_handle=cast(LogHandle, None),
        health_results=(results or HealthResults()).drain,
        extensions=extensions,
        on_telemetry_ack=(acks or asyncio.Queue()).put_nowait,
    )
    link.route_to(cast(Router, router or agent.router))
    async with asyncio.TaskGroup() as group:
        group.create_task(link.run(), name="link")
        yield link
        await link.stop()


async def test_an_engine_that_hangs_costs_its_own_figures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_link, "ENGINE_SECS", 0.05)
    adapter = FakeEngine()
    adapter.hold("info")
    adapter.hold("observe")
    async with running(tmp_path, adapter) as agent, ControlPlane().serving() as plane:
        async with linked(tmp_path, plane, agent, adapter):
            hello = (await plane.next("agent_hello"))["payload"]
            assert (hello["runtime"], hello["runtime_version"]) == ("fake", "unavailable")
            assert (await plane.next("heartbeat"))["payload"]["services"] == []
        adapter.holds["observe"].release.set()


class OneAtATime:
    """A router that holds the messages of `held` request ids until released; it remembers the order it began them in,
    and refuses to keep anything while `full`."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self.release = asyncio.Event()
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.full = False

    async def handle(self, kind: str, envelope_id: str, payload: Mapping[str, Json], peer: object) -> None:
        request_id = str(payload.get("request_id"))
        self.begun.put_nowait(request_id)
        if request_id in self.held:
            await self.release.wait()
        if self.full:
            raise JournalError("cannot write the journal: the disk is full; make room")

    def forget(self, peer: object) -> None:
        pass


async def test_what_was_queued_for_an_absent_agent_comes_before_what_is_sent_to_it_later(tmp_path: Path) -> None:
    async def behaviour(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(frame("hello_ack", {"pending_deployments": [{"request_id": "old"}]}))
        await connection.send(frame("deploy", {"request_id": "new"}))
        await connection.wait_closed()

    adapter, router = FakeEngine(), OneAtATime("old")
    async with (
        running(tmp_path, adapter) as agent,
        ControlPlane(behaviour).serving() as plane,
        linked(tmp_path, plane, agent, adapter, router),
    ):
        assert await get(router.begun) == "old"
        # The pong shows that the agent has read what was sent before it.
        await (await (await get(plane.connections)).ping())
        assert router.begun.empty()
        router.release.set()
        assert await get(router.begun) == "new"


async def test_queued_deployments_survive_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    adapter, router = FakeEngine(), OneAtATime()
    router.full = True
    ack = {"pending_deployments": [{"request_id": "r1"}, {"request_id": "r2"}]}
    async with (
        running(tmp_path, adapter) as agent,
        ControlPlane(ack=ack).serving() as plane,
        linked(tmp_path, plane, agent, adapter, router),
    ):
        assert [await get(router.begun), await get(router.begun)] == ["r1", "r2"]
        await plane.next("heartbeat")


async def test_what_probes_find_is_shipped_in_batches_as_the_contract_says(tmp_path: Path) -> None:
    results, adapter = HealthResults(), FakeEngine()
    good = ProbeResult(ok=True, detail="200", status_code=200, duration_secs=0.0125)
    bad = ProbeResult(ok=False, detail="connection refused", duration_secs=0.001)
    # Found before anybody was there: it waits.
    results.add(HealthResult(service_id=ServiceId("web"), at=1_700_000_000.5, probe=good))
    async with (
        running(tmp_path, adapter) as agent,
        ControlPlane(ack={"config": {"telemetry_batch_interval_seconds": 1}}).serving() as plane,
        linked(tmp_path, plane, agent, adapter, results=results),
    ):
        batch = (await plane.next("telemetry_batch"))["payload"]
        results.add(HealthResult(service_id=ServiceId("web"), at=1_700_000_001.0, probe=bad))
        later = (await plane.next("telemetry_batch"))["payload"]
    assert [*TELEMETRY_BATCH(batch, "batch"), *TELEMETRY_BATCH(later, "later")] == []
    assert batch["agent_id"] == "agt_1"
    assert batch["batch_id"] != later["batch_id"]
    assert batch["data"] == {
        "errors": [],
        "traces": [],
        "logs": [],
        "metrics": [],
        "health_checks": [
            {
                "service_id": "web",
                "timestamp": "2023-11-14T22:13:20.500Z",
                "is_healthy": True,
                "response_time_ms": 12.5,
                "status_code": 200,
            }
        ],
    }
    [failed] = later["data"]["health_checks"]
    assert (failed["is_healthy"], failed["error"]) == (False, "connection refused")


# Extensions


async def until_connected(link: ControlLink) -> None:
    async with asyncio.timeout(5):
        while not link.is_connected:
            await asyncio.sleep(0.001)


AGREED = {"config": {"features": ["binary_telemetry", "telemetry_ack", "log_credit"]}}


async def test_extensions_are_offered_in_hello_and_used_as_agreed_while_connected(tmp_path: Path) -> None:
    adapter, acks = FakeEngine(), asyncio.Queue[TelemetryAck]()
    frames = asyncio.Queue[bytes]()
    extensions = ("telemetry_ack", "binary_telemetry")

    async def behaviour(plane: ControlPlane, connection: ServerConnection) -> None:
        plane.frames.put_nowait(json.loads(await connection.recv()))
        await connection.send(frame("hello_ack", AGREED))
        async for data in connection:
            if isinstance(data, bytes):
                frames.put_nowait(data)
                await connection.send(frame("telemetry_ack", {"batch_id": "b", "accepted": True}))

    async with running(tmp_path, adapter) as agent, ControlPlane(behaviour).serving() as plane:
        async with linked(tmp_path, plane, agent, adapter, extensions=extensions, acks=acks) as link:
            offered = (await plane.next("agent_hello"))["payload"]["capabilities"]
            assert offered == [*control_link.CAPABILITIES, "binary_telemetry", "telemetry_ack"]
            await until_connected(link)
            assert link.features == {"binary_telemetry", "telemetry_ack"}
            await link.send_binary(b"data")
            assert await get(frames) == b"data"
            assert (await get(acks)).batch_id == "b"
        assert link.features == frozenset()
        with pytest.raises(PeerGone):
            await link.send_binary(b"data")


@pytest.mark.parametrize(
    ("dialect", "extensions", "ack"),
    [
        # Its own code answers hello so; an ack that names features would not make it read binary frames.
        ("hub", ("binary_telemetry",), AGREED),
        ("hub", ("binary_telemetry",), {}),
        ("auto", ("binary_telemetry",), {}),
        ("auto", ("telemetry_ack",), AGREED),
        ("contract", (), AGREED),
    ],
)
async def test_the_hub_and_a_control_plane_without_the_agreement_get_no_binary_frame(
    tmp_path: Path, dialect: str, extensions: tuple[str, ...], ack: dict[str, Any]
) -> None:
    adapter = FakeEngine()
    async with (
        running(tmp_path, adapter) as agent,
        ControlPlane(ack={"accepted": True, **ack}).serving() as plane,
        linked(tmp_path, plane, agent, adapter, dialect=dialect, extensions=extensions) as link,
    ):
        await plane.next("heartbeat")
        assert "binary_telemetry" not in link.features
        with pytest.raises(PeerGone, match="did not agree to binary_telemetry"):
            await link.send_binary(b"data")


# The dialect


HUB_STATUS = {"deployment_id": "d1", "service_id": "web", "status": "rolled_back", "error_message": "it crashed"}


@pytest.mark.parametrize(
    ("dialect", "status"), [("contract", "rolled_back"), ("hub", "failed"), ("auto", "rolled_back")]
)
async def test_what_waits_in_the_outbox_is_told_in_the_dialect(tmp_path: Path, dialect: str, status: str) -> None:
    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent, ControlPlane().serving() as plane:
        await agent.journal.outbox.add(envelope("deploy_status", HUB_STATUS))
        async with linked(tmp_path, plane, agent, adapter, dialect=dialect):
            assert (await plane.next("deploy_status"))["payload"]["status"] == status


async def test_the_first_frame_that_only_the_hub_sends_decides_and_is_remembered_for_the_endpoint(
    tmp_path: Path,
) -> None:
    async def behaviour(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(frame("hello_ack", {}))
        # One that others send as well, before the one that tells.
        await connection.send(frame("stop", {"request_id": "s1", "service_id": "web"}))
        await connection.send(frame("cancel_deploy", {"deployment_id": "d9"}, id="c1"))
        async for text in connection:
            plane.frames.put_nowait(json.loads(text))

    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent, ControlPlane(behaviour).serving() as plane:
        remembered = RememberedDialects(agent.journal._database)
        async with linked(tmp_path, plane, agent, adapter):
            assert (await plane.next("command_response"))["payload"]["request_id"] == "s1"
            refused = (await plane.next("command_response"))["payload"]
            assert (refused["request_id"], refused["error"]["code"]) == ("c1", "DEPLOYMENT_NOT_FOUND")
            ended = (await plane.next("deploy_status"))["payload"]
            assert (ended["deployment_id"], ended["status"]) == ("d9", "failed")
        assert await remembered.of(plane.endpoint()) == "hub"
        assert await remembered.of("wss://elsewhere.example/agent/ws") is None
        await agent.journal.outbox.add(envelope("deploy_status", HUB_STATUS))
        async with linked(tmp_path, plane, agent, adapter):
            assert (await plane.next("deploy_status"))["payload"]["status"] == "failed"


async def test_a_configured_contract_stays_the_contract_whatever_arrives(tmp_path: Path) -> None:
    async def behaviour(plane: ControlPlane, connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(frame("hello_ack", {}))
        await connection.send(frame("cancel_deploy", {"deployment_id": "d9"}, id="c1"))
        async for text in connection:
            plane.frames.put_nowait(json.loads(text))

    adapter = FakeEngine()
    async with running(tmp_path, adapter) as agent, ControlPlane(behaviour).serving() as plane:
        async with linked(tmp_path, plane, agent, adapter, dialect="contract"):
            assert (await plane.next("command_response"))["payload"]["error"]["code"] == "UNSUPPORTED"
        assert await RememberedDialects(agent.journal._database).of(plane.endpoint()) is None


async def test_a_pending_deployment_that_names_no_image_is_skipped(tmp_path: Path) -> None:
    stub = {"deployment_id": "d0", "service_id": "web", "queued_at": "2026-11-27T00:49:00Z"}
    adapter, router = FakeEngine(), OneAtATime()
    async with (
        running(tmp_path, adapter) as agent,
        ControlPlane(ack={"pending_deployments": [stub, {"request_id": "real"}]}).serving() as plane,
        linked(tmp_path, plane, agent, adapter, router),
    ):
        assert await get(router.begun) == "real"
        assert router.begun.empty()
