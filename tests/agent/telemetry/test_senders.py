"""Who the senders of telemetry are: from the engine's containers and the journal's deployments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.telemetry.senders import RECHECK_SECS, Senders, senders
from syntra.model.container import Container, ContainerState
from syntra.model.fields import Json
from syntra.model.ids import ContainerId
from tests.agent.agent_rig import Agent, Machine
from tests.model.samples import deployment


def test_every_address_of_a_replica_names_it() -> None:
    found = deployment()
    container = Container(
        container_id=ContainerId("c" * 64),
        name="syn-svc_123",
        service_id=found.spec.service_id,
        deployment_id=found.deployment_id,
        index=2,
        spec_hash="",
        state=ContainerState.RUNNING,
        created_ns=0,
        addresses={"syntra-shop": "172.18.0.2", "other": "10.9.0.2", "unset": ""},
    )
    table = senders([(container, found)])
    assert table.keys() == {"172.18.0.2", "10.9.0.2"}
    assert table["172.18.0.2"] == {
        "service_id": "svc_123",
        "service_name": "api",
        "project": "shop",
        "deployment_id": "dep_abc12345",
        "container_id": "c" * 64,
        "replica": "syn-svc_123",
        "image": str(found.spec.image),
    }


NO_NETWORK = {"gateways": [], "subnets": [], "is_shared": False}


class Process:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, Any]]] = []

    async def tell(self, kind: str, fields: Mapping[str, Json]) -> None:
        self.told.append((kind, fields))

    def last(self, kind: str) -> Mapping[str, Any]:
        """The last message of a kind."""
        return [fields for name, fields in self.told if name == kind][-1]


@asynccontextmanager
async def following(machine: Machine) -> AsyncIterator[tuple[Agent, Process]]:
    """An agent whose senders are followed."""
    process = Process()
    async with machine.running() as agent, asyncio.TaskGroup() as group:
        parts = Senders(agent.engine, agent.journal, agent.changes, process)
        task = group.create_task(parts.run())
        await asyncio.sleep(0.1)
        yield agent, process
        task.cancel()


@pytest.mark.virtual_time
async def test_replicas_are_told_before_the_gateways_on_which_they_send(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "data")
    async with following(machine) as (agent, process):
        assert process.told == [("senders", {"senders": {}}), ("gateways", NO_NETWORK)]
        process.told.clear()
        await agent.deployed("d1")
        await asyncio.sleep(1)
        kinds = [kind for kind, _ in process.told]
        assert kinds == ["senders", "gateways"] * (len(kinds) // 2) and kinds
        [(address, identity)] = process.last("senders")["senders"].items()
        assert address == "127.0.0.1"
        assert (identity["service_id"], identity["deployment_id"]) == ("web", "d1")
        network = agent.engine.network(identity["project"])
        assert process.last("gateways") == {
            "gateways": [str(network.gateways[0])],
            "subnets": [str(network.subnets[0])],
            "is_shared": False,
        }
        await agent.carry_out("stop", "s1")
        await asyncio.sleep(1)
        assert process.last("senders") == {"senders": {}}
        assert process.last("gateways") == NO_NETWORK


@pytest.mark.virtual_time
async def test_while_the_engine_is_away_nothing_is_told_and_then_the_truth(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "data")
    async with following(machine) as (agent, process):
        await agent.deployed("d1")
        await asyncio.sleep(1)
        agent.engine.away = True
        process.told.clear()
        agent.changes.announce()
        await asyncio.sleep(3 * RECHECK_SECS)
        # What was told stays in force.
        assert process.told == []
        agent.engine.away = False
        await asyncio.sleep(RECHECK_SECS + 1)
        assert len(process.last("senders")["senders"]) == 1


@pytest.mark.virtual_time
async def test_networks_that_cannot_be_listed_leave_the_senders_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(tmp_path / "data")
    async with following(machine) as (agent, process):
        await agent.deployed("d1")
        await asyncio.sleep(1)
        process.told.clear()
        agent.engine.refuse("networks", "INTERNAL")
        with caplog.at_level(logging.DEBUG, "syntra.agent.telemetry"):
            agent.changes.announce()
            await asyncio.sleep(1)
        assert [kind for kind, _ in process.told] == ["senders"]
        assert "the engine says no" in str([vars(record).get("reason") for record in caplog.records])
        await asyncio.sleep(RECHECK_SECS + 1)
        assert [kind for kind, _ in process.told] == ["senders", "senders", "gateways"]
