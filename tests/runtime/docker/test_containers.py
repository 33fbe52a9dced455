"""Containers on a real engine, and the faults of removal and waiting on a scripted one."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from syntra.model.container import Container, ContainerState
from syntra.model.figures import cpu_percent
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.runtime.docker.cgroup import CgroupReader
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.containers import REMOVE_TIMES, Containers
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import (
    BadParameter,
    Conflict,
    DockerError,
    EngineError,
    EngineTimeout,
    NotFound,
    StreamBroken,
)
from syntra.runtime.docker.readings import Readings
from syntra.runtime.docker.stats import container_reading, is_empty
from tests.narrow import present
from tests.runtime.docker.fake_engine import Peer, answer, asked, replying
from tests.runtime.docker.scratch import container, fresh_name

FOREVER = ["sleep", "1000"]


async def test_a_container_is_created_inspected_listed_and_removed(endpoint: Endpoint, image: str) -> None:
    body = {"Env": ["A=1"], "Labels": {"syntra.test": "lifecycle"}, "HostConfig": {"RestartPolicy": {"Name": "always"}}}
    async with container(endpoint, image, FOREVER, start=False, **body) as made:
        details = await made.containers.inspect(made.id)
        assert (details.id, details.name, details.image_ref) == (made.id, made.name, image)
        assert details.image_id.startswith("sha256:")
        assert details.labels["syntra.test"] == "lifecycle"
        assert details.env["A"] == "1"
        assert (details.state.status, details.state.running, details.state.pid) == ("created", False, 0)
        assert (details.restart_policy, details.restart_count, details.tty) == ("always", 0, False)
        assert details.state.health_status is None
        found = await made.containers.list(labels={"syntra.test": None})
        row = next(row for row in found if row.id == made.id)
        assert (row.name, row.state, row.image_ref, row.image_id) == (made.name, "created", image, details.image_id)
        assert row.created > 0
        assert made.id not in [row.id for row in await made.containers.list(labels={"syntra.test": "other"})]
        assert made.id not in [row.id for row in await made.containers.list(labels={}, all=False)]
        await made.containers.remove(made.id)
        await made.containers.remove(made.id)
        with pytest.raises(NotFound):
            await made.containers.inspect(made.id)


async def test_state_changes_tell_whether_there_was_anything_to_do(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER, start=False, StopSignal="SIGKILL") as made:
        one = made.containers
        assert not await one.stop(made.id, 0)
        assert await one.start(made.id)
        assert not await one.start(made.id)
        before = (await one.inspect(made.name)).state
        assert (before.status, before.running) == ("running", True)
        with pytest.raises(Conflict):
            await one.remove(made.id)
        await one.restart(made.id, 1)
        after = (await one.inspect(made.id)).state
        assert after.started_at > before.started_at
        await one.set_restarts(made.id, "always")
        assert (await one.inspect(made.id)).restart_policy == "always"
        renamed = fresh_name()
        await one.rename(made.id, renamed)
        assert (await one.inspect(renamed)).id == made.id
        await one.set_restarts(made.id, "no")
        assert (await one.inspect(made.id)).restart_policy == "no"
        assert await one.stop(made.id, 5)
        assert not await one.stop(made.id, 5)
        with pytest.raises(Conflict):
            await one.kill(made.id, "SIGTERM")
        assert (await one.inspect(made.id)).state.status == "exited"


async def test_creation_and_start_fail_with_the_engines_words(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, ["/no/such/binary"], start=False) as made:
        with pytest.raises(Conflict, match="already in use"):
            await made.containers.create(made.name, {"Image": image, "Cmd": ["true"]})
        with pytest.raises(NotFound, match="No such image"):
            await made.containers.create(fresh_name(), {"Image": "syntra-test-absent:v0", "Cmd": ["true"]})
        with pytest.raises(BadParameter, match="no such file"):
            await made.containers.start(made.id)
        state = (await made.containers.inspect(made.id)).state
        assert (state.status, state.exit_code) == ("created", 127)
        assert "no such file" in state.error


async def test_an_armed_wait_sees_a_container_that_ends_at_once(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, ["sh", "-c", "exit 3"], start=False) as made:
        async with made.containers.armed_wait(made.id, "next-exit") as outcome:
            await made.containers.start(made.id)
            async with asyncio.timeout(20):
                assert await outcome() == 3
        assert await made.containers.wait(made.id, deadline=20) == 3
        async with made.containers.armed_wait(made.id, "removed") as outcome:
            await made.containers.remove(made.id)
            async with asyncio.timeout(20):
                assert await outcome() == 3


async def test_a_wait_has_a_deadline_and_a_kill_ends_it(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        with pytest.raises(EngineTimeout, match="to be not-running"):
            await made.containers.wait(made.id, deadline=0.05)
        await made.containers.kill(made.id, "SIGKILL")
        assert await made.containers.wait(made.id, deadline=20) == 137


async def test_parallel_removals_all_end_when_it_is_gone(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(made.containers.remove(made.id, force=True), name=f"remove {number}")
        with pytest.raises(NotFound):
            await made.containers.inspect(made.id)


async def test_figures_come_from_the_engine_and_from_cgroup_files_alike(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, ["sh", "-c", "while :; do :; done"]) as made:
        pid = (await made.containers.inspect(made.id)).state.pid
        container_id = ContainerId(made.id)
        reader = CgroupReader()
        before = reader.read(container_id, pid)
        if before is None:
            pytest.skip("the engine's cgroups are not visible from here")
        first = present(container_reading(await made.containers.stats(made.id)))
        await asyncio.sleep(1)
        second = present(container_reading(await made.containers.stats(made.id)))
        after = present(reader.read(container_id, pid))
        assert 5 < cpu_percent(first, second) < 150, "one core is busy, as far as others leave it"
        assert before.cpu_ns <= first.cpu_ns < second.cpu_ns <= after.cpu_ns
        for name in ("minor_faults", "major_faults"):
            assert getattr(before, name) <= getattr(first, name) <= getattr(after, name), name
        # The engine has them in hundredths of a second, and each of the two may be rounded.
        hundredths = 20_000_000
        assert present(before.cpu_user_ns) - hundredths <= present(first.cpu_user_ns) <= present(second.cpu_user_ns)
        assert present(second.cpu_user_ns) <= present(after.cpu_user_ns) + hundredths
        assert (after.pids, after.oom_kills) == (1, 0) and second.pids == 1
        assert abs(after.working_set_bytes - second.working_set_bytes) < 1024 * 1024
        assert after.rss_bytes == pytest.approx(second.rss_bytes, abs=65536)
        assert before.networks == second.networks == {}, "it has no network"
        assert after.cpu_limit is None
        await made.containers.kill(made.id, "SIGKILL")
        await made.containers.wait(made.id, deadline=20)
        assert is_empty(await made.containers.stats(made.id))
        assert reader.read(container_id, pid) is None


async def test_an_odd_name_addresses_nothing_else(endpoint: Endpoint) -> None:
    async with EngineClient(endpoint) as client:
        for name in ("", "..", "a/../json"):
            with pytest.raises(DockerError, match="is not a name"):
                await Containers(client).inspect(name)
        for name in ("a?all=1", "a#b", "a b"):
            with pytest.raises(NotFound):
                await Containers(client).inspect(name)


@pytest.mark.parametrize("gone_after", [0, 3])
async def test_a_removal_in_progress_is_waited_for(tmp_path: Path, gone_after: int) -> None:
    looks = itertools.count()

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.method == "DELETE":
                await peer.send(answer(409, {"message": "removal of container x is already in progress"}))
            elif next(looks) < gone_after:
                await peer.send(answer(200, {"Id": "x", "State": {"Status": "removing"}}))
            else:
                await peer.send(answer(404, {"message": "No such container: x"}))

    async with asked(tmp_path, script) as (engine, client):
        await Containers(client).remove("x", force=True)
        assert len(engine.requests) == gone_after + 2


@pytest.mark.parametrize(("force", "refusals", "works"), [(True, 1, True), (True, 99, False), (False, 1, False)])
async def test_a_removal_while_a_container_ends_is_tried_again(
    tmp_path: Path, force: bool, refusals: int, works: bool
) -> None:
    words = "cannot remove container x as it could not be stopped: sending SIGKILL: container state improper: stopped"
    asked_for = 0

    async def script(peer: Peer) -> None:
        nonlocal asked_for
        while True:
            await peer.request()
            asked_for += 1
            await peer.send(answer(500, {"message": words}) if asked_for <= refusals else answer(204))

    async with asked(tmp_path, script) as (_, client):
        if works:
            await Containers(client).remove("x", force=force)
            assert asked_for == refusals + 1
        else:
            with pytest.raises(EngineError, match="could not be stopped"):
                await Containers(client).remove("x", force=force)
            assert asked_for == (REMOVE_TIMES if force else 1)


async def test_a_removal_that_does_not_end_is_a_timeout(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            message = {"message": "removal of container x is already in progress"}
            await peer.send(answer(409, message) if request.method == "DELETE" else answer(200, {}))

    async with asked(tmp_path, script) as (_, client):
        with pytest.raises(EngineTimeout, match="cannot remove container x"):
            await Containers(client).remove("x", deadline=0.1)


async def test_a_wait_that_ends_without_a_code_is_a_broken_stream(tmp_path: Path) -> None:
    script = replying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    async with asked(tmp_path, script) as (_, client):
        with pytest.raises(StreamBroken, match="without an exit code"):
            await Containers(client).wait("x", deadline=5)


async def test_the_deadline_of_a_stop_exceeds_its_grace(tmp_path: Path) -> None:
    async with asked(tmp_path, replying(b"HTTP/1.1 204 No Content\r\n\r\n")) as (engine, client):
        assert await Containers(client).stop("x", 2.2)
        assert engine.requests[0].target == "/v1.41/containers/x/stop?t=3"


async def test_where_cgroup_files_are_out_of_reach_the_engine_is_asked(
    endpoint: Endpoint, image: str, tmp_path: Path
) -> None:
    async with container(endpoint, image, FOREVER) as made:
        details = await made.containers.inspect(made.id)
        running = Container(
            container_id=ContainerId(made.id),
            name=made.name,
            service_id=ServiceId("svc"),
            deployment_id=DeploymentId("d1"),
            index=1,
            spec_hash="",
            state=ContainerState.RUNNING,
            created_ns=0,
            pid=details.state.pid,
        )
        gone = replace(running, container_id=ContainerId("0" * 64))
        away = Readings(made.containers, CgroupReader(cgroup_root=tmp_path))
        found = await away.read([running, gone, replace(running, state=ContainerState.EXITED)])
        assert found.keys() == {running.container_id}
        assert found[running.container_id].memory_bytes > 0
        here = await Readings(made.containers, CgroupReader()).read([running])
        assert here[running.container_id].cpu_ns >= found[running.container_id].cpu_ns
