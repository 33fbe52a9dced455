"""What every runtime engine does, as tests: run against the real engine and against the fake that other tests use.

A subclass gives `open_rig`: an engine with one service of its own, images of it, and a registry to pull from.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

import pytest

from syntra.model.command import ExecStreams
from syntra.model.container import Container, ContainerState
from syntra.model.ids import ContainerId, DeploymentId, ServiceId
from syntra.model.image import ImageRef
from syntra.model.spec import Deployment, ImageVolumes, RegistryAuth, Strategy, VolumeMount
from syntra.model.status import ContainerExit, LogLine
from syntra.model.volume import Mount
from syntra.runtime.containers.engine import ContainerEngine
from syntra.runtime.containers.volumes import is_anonymous
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.runtime.runtime import LogRange
from tests.model import samples
from tests.narrow import present
from tests.on_loop import OnLoop
from tests.runtime.containers.world import replica

WAIT_SECS = 20.0


@dataclass(frozen=True, kw_only=True)
class Rig:
    """An engine and what it may work with.

    `local` exists only here, `pushed` only in the registry, `missing` nowhere; `port` is free on the host.
    `away` speaks to an engine that is not there.
    """

    engine: ContainerEngine
    away: ContainerEngine
    service_id: ServiceId
    project: str
    local: ImageRef
    pushed: ImageRef
    missing: ImageRef
    auth: RegistryAuth
    port: int
    stop_registry: Callable[[], None]
    declaring: Callable[[], Awaitable[ImageRef]]
    """Makes an image that exists only here and declares /data as a volume."""
    exact_log_times: bool = True
    """Whether the engine tells the times of log lines to the nanosecond, else to the second."""
    left: list[str]
    """Volumes without a name of the test, for its clean-up."""

    def deployment(
        self,
        deployment_id: str = "d1",
        *,
        image: ImageRef | None = None,
        env: Mapping[str, str] | None = None,
        host_port: int | None = None,
        volumes: tuple[VolumeMount, ...] = (),
    ) -> Deployment:
        made = samples.deployment(
            deployment_id,
            strategy=Strategy.BLUE_GREEN,
            service_id=self.service_id,
            service_name="web",
            project_name=self.project,
            image=image or self.local,
            port=8080,
            cpu_nanos=500_000_000,
            memory_bytes=64 * 1024 * 1024,
            env={"KEY": "a=b\nc", **(env or {})},
            labels={"team": "shop"},
            volumes=volumes,
            domains=("shop.example.com",),
            internal_hostname="web.shop.internal",
            host_port=host_port,
        )
        return replace(made, rollback_on_failure=False, timeout_secs=77.0)

    def releasing(self, script: str) -> Deployment:
        wanted = self.deployment()
        options = replace(wanted.spec.options, stop_grace_secs=1.0)
        spec = replace(wanted.spec, release_command=("sh", "-c", script), options=options)
        return replace(wanted, spec=spec)

    async def obtained(self, deployment: Deployment) -> Deployment:
        await self.engine.obtain_image(deployment, None, _ignore)
        return deployment

    async def running(self, deployment: Deployment, index: int = 1) -> ContainerId:
        """A started replica that has said that it serves."""
        await self.obtained(deployment)
        container_id, _ = await self.engine.create(deployment, index)
        await self.engine.start(container_id)
        await self.has_said(container_id, "serving")
        return container_id

    async def seen(self, container_id: ContainerId) -> Container:
        found = await self.engine.inspect(container_id)
        assert found is not None, "the container is gone"
        return found

    async def becomes(self, container_id: ContainerId, what: Callable[[Container], bool]) -> Container:
        async with asyncio.timeout(WAIT_SECS):
            while not what(found := await self.seen(container_id)):
                await asyncio.sleep(0.02)
        return found

    async def has_said(self, container_id: ContainerId, word: str) -> None:
        async with asyncio.timeout(WAIT_SECS):
            while not any(word in line.message for line in await self.engine.tail(container_id, 50)):
                await asyncio.sleep(0.02)


def _ignore(percent: int, text: str) -> None:
    pass


def _code(caught: pytest.ExceptionInfo[StepFailed]) -> str:
    return caught.value.code


class EngineContract:
    """The contract. Every test has a service id of its own."""

    def open_rig(self) -> AbstractAsyncContextManager[Rig]:
        raise NotImplementedError

    @pytest.fixture
    def rig(self) -> OnLoop[Rig]:
        return OnLoop(self.open_rig())

    async def test_the_engine_tells_its_name_and_versions(self, rig: Rig) -> None:
        await rig.engine.ping()
        info = await rig.engine.info()
        assert info.name
        assert info.version
        assert re.fullmatch(r"\d+\.\d+", info.api_version)

    async def test_a_replica_is_created_started_stopped_and_removed_and_each_may_be_asked_twice(self, rig: Rig) -> None:
        deployment = await rig.obtained(rig.deployment())
        container_id, name = await rig.engine.create(deployment, 1)
        assert name == f"syn-{rig.service_id}-d1"
        assert await rig.engine.inspect(ContainerId("0" * 64)) is None
        created = await rig.seen(container_id)
        assert (created.state, created.is_up, created.name) == (ContainerState.CREATED, False, name)
        for _ in range(2):
            await rig.engine.start(container_id)
        started = await rig.seen(container_id)
        assert (started.state, started.exit_code, started.restart_count) == (ContainerState.RUNNING, None, 0)
        assert started.pid > 0
        assert started.started_ns is not None
        assert started.started_ns >= started.created_ns
        assert any(started.addresses.values())
        await rig.has_said(container_id, "serving")
        for _ in range(2):
            await rig.engine.stop(container_id, 5.0)
        stopped = await rig.seen(container_id)
        assert (stopped.state, stopped.is_up, stopped.exit_code) == (ContainerState.EXITED, False, 0)
        for _ in range(2):
            await rig.engine.remove(container_id)
        assert await rig.engine.inspect(container_id) is None
        await rig.engine.stop(container_id, 1.0)

    async def test_what_is_gone_cannot_be_started_restarted_asked_or_measured(self, rig: Rig) -> None:
        gone = ContainerId("0" * 64)
        for attempt in (
            rig.engine.start(gone),
            rig.engine.restart(gone, 1.0),
            rig.engine.tail(gone, 5),
            rig.engine.execute(gone, ["pwd"], env={}, working_dir=None, deadline_secs=5.0),
        ):
            with pytest.raises(StepFailed) as caught:
                await attempt
            assert _code(caught) == "CONTAINER_NOT_FOUND"
            assert caught.value.container_id == gone

    async def test_a_running_container_can_be_removed(self, rig: Rig) -> None:
        container_id = await rig.running(rig.deployment())
        await rig.engine.remove(container_id)
        assert await rig.engine.observe(rig.service_id) == []

    async def test_a_service_is_observed_without_its_neighbours_and_in_any_state(self, rig: Rig) -> None:
        first = await rig.obtained(rig.deployment())
        other = rig.deployment()
        other = await rig.obtained(replace(other, spec=replace(other.spec, service_id=ServiceId(f"{rig.service_id}x"))))
        ids = [(await rig.engine.create(first, index))[0] for index in (1, 2)]
        neighbour, _ = await rig.engine.create(other, 1)
        await rig.engine.start(ids[1])
        observed = {replica.container_id: replica for replica in await rig.engine.observe(rig.service_id)}
        assert set(observed) == set(ids)
        assert [observed[i].index for i in ids] == [1, 2]
        assert [observed[i].state for i in ids] == [ContainerState.CREATED, ContainerState.RUNNING]
        assert {r.deployment_id for r in observed.values()} == {"d1"}
        assert {*ids, neighbour} <= {replica.container_id for replica in await rig.engine.observe()}

    async def test_a_taken_name_gets_a_suffix(self, rig: Rig) -> None:
        deployment = await rig.obtained(rig.deployment())
        (one, plain), (two, suffixed) = [await rig.engine.create(deployment, 1) for _ in range(2)]
        assert one != two
        assert re.fullmatch(re.escape(plain) + r"-[0-9a-f]{4}", suffixed)
        assert (await rig.seen(two)).name == suffixed
        assert (await rig.engine.create(deployment, 2))[1] == f"{plain}-2"

    async def test_without_its_image_nothing_is_created(self, rig: Rig) -> None:
        with pytest.raises(StepFailed) as caught:
            await rig.engine.create(rig.deployment(), 1)
        assert _code(caught) == "IMAGE_NOT_FOUND"

    async def test_an_image_is_pulled_pinned_and_collected_when_nobody_needs_it(self, rig: Rig) -> None:
        deployment = rig.deployment(image=rig.pushed)
        assert not await rig.engine.has_image(deployment)
        said: list[tuple[int, str]] = []
        note = await rig.engine.obtain_image(deployment, rig.auth, lambda *report: said.append(report))
        assert note == ""
        assert await rig.engine.has_image(deployment)
        assert not await rig.engine.has_image(rig.deployment("d2", image=rig.pushed))
        assert all(0 <= percent <= 100 for percent, _ in said)
        keep = {rig.service_id: frozenset({DeploymentId("d1")})}
        assert await rig.engine.collect_garbage(keep, frozenset()) == 0
        assert await rig.engine.collect_garbage(keep, frozenset({rig.service_id})) == 0
        assert await rig.engine.has_image(deployment)
        assert await rig.engine.collect_garbage({}, frozenset({rig.service_id})) >= 1
        assert not await rig.engine.has_image(deployment)

    async def test_an_image_that_is_only_here_serves_and_that_is_said(self, rig: Rig) -> None:
        note = await rig.engine.obtain_image(rig.deployment(), None, _ignore)
        assert "the local image is used" in note
        assert await rig.engine.has_image(rig.deployment())

    async def test_a_registry_that_is_down_is_stood_in_for_by_a_present_image_with_a_fixed_tag(self, rig: Rig) -> None:
        await rig.engine.obtain_image(rig.deployment(image=rig.pushed), rig.auth, _ignore)
        rig.stop_registry()
        note = await rig.engine.obtain_image(rig.deployment("d2", image=rig.pushed), rig.auth, _ignore)
        assert "the local image is used" in note
        assert await rig.engine.has_image(rig.deployment("d2"))

    async def test_a_missing_image_and_a_wrong_password_fail_the_pull(self, rig: Rig) -> None:
        wrong = RegistryAuth(username=rig.auth.username, password="not the password")
        for image, auth in ((rig.missing, rig.auth), (rig.pushed, wrong), (rig.pushed, None)):
            with pytest.raises(StepFailed) as caught:
                await rig.engine.obtain_image(rig.deployment(image=image), auth, _ignore)
            assert _code(caught) == "PULL_FAILED"
            assert "not the password" not in str(caught.value)

    async def test_networks_and_volumes_may_be_ensured_again_and_at_once(self, rig: Rig) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(rig.engine.ensure_network(rig.project), name=f"network {number}")
                group.create_task(rig.engine.ensure_volume(f"{rig.project}-data"), name=f"volume {number}")
        volume = VolumeMount(name=f"{rig.project}-data", host_path=None, container_path="/data", read_only=False)
        deployment = await rig.obtained(rig.deployment(volumes=(volume,)))
        container_id, _ = await rig.engine.create(deployment, 1)
        assert (await rig.seen(container_id)).writable_mounts == {f"{rig.project}-data"}
        assert (await rig.seen(container_id)).volumes == {"/data": f"{rig.project}-data"}

    async def test_volumes_are_found_with_their_project_and_those_who_mount_them(self, rig: Rig) -> None:
        ours, image, other = (f"{rig.project}_{name}" for name in ("ours", "image", "other"))
        assert await rig.engine.find_volumes(frozenset({ours, image})) == []
        await rig.engine.ensure_volume(ours, project=rig.project)
        await rig.engine.ensure_volume(image, project=rig.project, service_id=rig.service_id)
        deployment = await rig.obtained(rig.deployment())
        mounts = (
            Mount(source=ours, target="/ours"),
            Mount(source=image, target="/image", read_only=True),
            # Made by the engine, as it is missing.
            Mount(source=other, target="/other"),
        )
        container_id, _ = await rig.engine.create(deployment, 1, mounts)
        found = await rig.engine.find_volumes(frozenset({ours, image, other, f"{rig.project}_none"}))
        assert [(volume.name, volume.is_managed, volume.project) for volume in found] == [
            (image, True, rig.project),
            (other, False, ""),
            (ours, True, rig.project),
        ]
        assert [[user.is_writer for user in volume.users] for volume in found] == [[False], [True], [True]]
        [user] = found[2].users
        assert (user.container_id, user.service_id, user.service_name, user.project) == (
            *(container_id, rig.service_id, "web", rig.project),
        )
        seen = await rig.seen(container_id)
        assert seen.volumes == {"/ours": ours, "/image": image, "/other": other}
        assert seen.writable_mounts == {ours, other}
        with pytest.raises(StepFailed, match=f"it was created for project {rig.project}"):
            await rig.engine.ensure_volume(ours, project=f"{rig.project}2")

    async def test_what_an_image_declares_is_known_once_it_is_here_and_a_mount_takes_its_place(self, rig: Rig) -> None:
        assert await rig.engine.image_volumes(rig.deployment(image=rig.missing)) is None
        assert await rig.engine.image_volumes(rig.deployment()) == frozenset()
        deployment = rig.deployment(image=await rig.declaring())
        assert await rig.engine.image_volumes(deployment) == frozenset({"/data"})
        await rig.obtained(deployment)
        assert await rig.engine.image_volumes(deployment) == frozenset({"/data"})
        bare, _ = await rig.engine.create(deployment, 1)
        [anonymous] = (await rig.seen(bare)).volumes.values()
        assert is_anonymous(anonymous)
        named = f"{rig.project}_named"
        mounted, _ = await rig.engine.create(deployment, 2, [Mount(source=named, target="/data")])
        assert (await rig.seen(mounted)).volumes == {"/data": named}

    async def test_an_anonymous_volume_goes_with_a_container_only_when_it_holds_nothing_to_keep(self, rig: Rig) -> None:
        kept = await rig.obtained(rig.deployment(image=await rig.declaring()))
        spec = replace(kept.spec, image_volumes=ImageVolumes.DISCARD)
        discarded = await rig.obtained(replace(kept, deployment_id=DeploymentId("d2"), spec=spec))
        stays: list[bool] = []
        for deployment, starts in ((kept, True), (kept, False), (discarded, True)):
            container_id, _ = await rig.engine.create(deployment, 1)
            [anonymous] = (await rig.seen(container_id)).volumes.values()
            if starts:
                await rig.engine.start(container_id)
                await rig.engine.stop(container_id, 0.0)
            await rig.engine.remove(container_id)
            stays.append(bool(await rig.engine.find_volumes(frozenset({anonymous}))))
            rig.left.append(anonymous)
        assert stays == [True, False, False]

    async def test_a_projects_network_is_described_once_it_is_there(self, rig: Rig) -> None:
        other, both = f"{rig.project}-2", frozenset({rig.project, f"{rig.project}-2"})
        assert await rig.engine.networks(both) == []
        await rig.engine.ensure_network(other)
        await rig.engine.ensure_network(rig.project)
        assert await rig.engine.networks(frozenset()) == []
        found, second = await rig.engine.networks(both)
        assert (found.project, second.project) == (rig.project, other)
        assert await rig.engine.networks(frozenset({rig.project})) == [found]
        assert found.name == f"syntra-{rig.project}"
        assert found.bridge.startswith("br-")
        assert found.bridge != second.bridge
        assert len(found.gateways) == len(found.subnets) >= 1
        for gateway, subnet in zip(found.gateways, found.subnets, strict=True):
            assert gateway in subnet
        assert not any(ours.overlaps(theirs) for ours in found.subnets for theirs in second.subnets)
        container_id = await rig.running(rig.deployment())
        assert found.name in (await rig.seen(container_id)).addresses
        await rig.engine.release_network(other)
        assert await rig.engine.networks(both) == [found]

    async def test_a_host_port_that_is_taken_refuses_the_start_and_is_wanted_even_when_down(self, rig: Rig) -> None:
        deployment = await rig.obtained(rig.deployment(host_port=rig.port))
        (one, _), (two, _) = [await rig.engine.create(deployment, index) for index in (1, 2)]
        await rig.engine.start(one)
        with pytest.raises(StepFailed) as caught:
            await rig.engine.start(two)
        assert _code(caught) == "START_FAILED"
        assert str(rig.port) in str(caught.value)
        assert not (await rig.seen(two)).is_up
        assert [(await rig.seen(i)).host_ports for i in (one, two)] == [{rig.port}, {rig.port}]
        await rig.engine.stop(one, 0.0)
        await rig.engine.start(two)
        assert (await rig.seen(two)).is_up

    async def test_a_crashing_program_is_restarted_until_it_is_stopped(self, rig: Rig) -> None:
        deployment = await rig.obtained(rig.deployment(env={"FAIL": "exit"}))
        container_id, _ = await rig.engine.create(deployment, 1)
        await rig.engine.start(container_id)
        restarted = await rig.becomes(container_id, lambda r: r.restart_count >= 2 and r.is_up)
        assert restarted.state is not ContainerState.EXITED
        await rig.engine.stop(container_id, 1.0)
        stopped = await rig.becomes(container_id, lambda r: not r.is_up)
        assert stopped.state is ContainerState.EXITED
        assert stopped.exit_code in (0, 3), "an engine without a pause between restarts stops what has just begun"
        lines = await rig.engine.tail(container_id, 50)
        assert ("stderr", "failing as told") in {(line.stream, line.message) for line in lines}

    async def test_an_end_by_itself_is_told_once_and_one_that_was_asked_for_is_not(self, rig: Rig) -> None:
        asked = await rig.running(rig.deployment(), 1)
        crashing, _ = await rig.engine.create(await rig.obtained(rig.deployment("d2", env={"FAIL": "exit"})), 2)
        rig.engine.drain_exits()
        await rig.engine.restart(asked, 1.0)
        await rig.engine.stop(asked, 1.0)
        await rig.engine.start(crashing)
        told: list[ContainerExit] = []
        async with asyncio.timeout(WAIT_SECS):
            while sum(end.container_id == crashing for end in told) < 2:
                await rig.seen(crashing)
                told += rig.engine.drain_exits().ended
                await asyncio.sleep(0.02)
        await rig.engine.remove(crashing)
        end = next(end for end in told if end.container_id == crashing)
        assert (end.service_id, end.deployment_id, end.index) == (rig.service_id, "d2", 2)
        assert (end.exit_code, end.signal, end.oom_killed) == (3, "", False)
        assert asked not in {end.container_id for end in told}

    async def test_a_program_that_ignores_the_signal_is_killed_after_the_grace(self, rig: Rig) -> None:
        container_id = await rig.running(rig.deployment(env={"FAIL": "deaf"}))
        begun = asyncio.get_running_loop().time()
        await rig.engine.stop(container_id, 1.0)
        assert asyncio.get_running_loop().time() - begun >= 0.9
        assert (await rig.seen(container_id)).exit_code == 137

    async def test_a_restart_begins_anew_and_starts_what_is_down(self, rig: Rig) -> None:
        container_id = await rig.running(rig.deployment())
        first = (await rig.seen(container_id)).started_ns
        await rig.engine.restart(container_id, 5.0)
        again = await rig.seen(container_id)
        assert again.state is ContainerState.RUNNING
        assert (again.started_ns or 0) > (first or 0)
        await rig.engine.stop(container_id, 5.0)
        await rig.engine.restart(container_id, 5.0)
        assert (await rig.seen(container_id)).is_up

    async def test_a_command_ends_with_its_exit_code_output_and_environment(self, rig: Rig) -> None:
        container_id = await rig.running(rig.deployment())

        async def say(script: str, **env: str) -> tuple[int, str, str]:
            ended = await rig.engine.execute(
                container_id, ["sh", "-c", script], env=env, working_dir="/tmp", deadline_secs=10.0
            )
            assert not ended.truncated
            return ended.exit_code, ended.stdout.decode(), ended.stderr.decode()

        assert await say("echo out;echo err >&2;exit 7") == (7, "out\n", "err\n")
        assert await say("pwd;echo $EXTRA;echo $SECOND", EXTRA="more", SECOND="x") == (0, "/tmp\nmore\nx\n", "")
        missing = await rig.engine.execute(
            container_id, ["no-such-program"], env={}, working_dir=None, deadline_secs=10.0
        )
        assert missing.exit_code in (126, 127)

    async def test_a_command_that_takes_too_long_or_says_too_much_is_cut(self, rig: Rig) -> None:
        container_id = await rig.running(rig.deployment())
        with pytest.raises(StepFailed) as caught:
            await rig.engine.execute(container_id, ["sleep", "60"], env={}, working_dir=None, deadline_secs=0.3)
        assert _code(caught) == "EXEC_TIMEOUT"
        loud = await rig.engine.execute(
            container_id, ["head", "-c", "1500000", "/dev/zero"], env={}, working_dir=None, deadline_secs=10.0
        )
        assert (loud.exit_code, loud.truncated, len(loud.stdout)) == (0, True, 256 * 1024)

    async def test_a_command_with_streams_gets_its_input_and_gives_its_output_and_exit_code(self, rig: Rig) -> None:
        container_id = await rig.running(rig.deployment())
        streams = ExecStreams(stdin=True, tty=False)
        attached = rig.engine.attach(container_id, ["cat"], env={}, working_dir=None, streams=streams)
        async with attached as session:
            await session.write(b"\x00\xff some")
            session.end_input()
            output = b""
            while said := await session.read():
                assert not any(is_error for is_error, _ in said)
                output += b"".join(data for _, data in said)
            assert (output, await session.exit_code()) == (b"\x00\xff some", 0)

    async def test_a_command_needs_a_container_that_runs(self, rig: Rig) -> None:
        deployment = await rig.obtained(rig.deployment())
        container_id, _ = await rig.engine.create(deployment, 1)
        with pytest.raises(StepFailed) as caught:
            await rig.engine.execute(container_id, ["pwd"], env={}, working_dir=None, deadline_secs=5.0)
        assert _code(caught) == "CONTAINER_NOT_RUNNING"

    async def test_the_last_lines_are_read_and_the_next_ones_followed_across_a_restart_to_the_end(
        self, rig: Rig
    ) -> None:
        container_id = await rig.running(rig.deployment(env={"VERSION": "7"}))
        assert [line.message for line in await rig.engine.tail(container_id, 1)] == ["serving 7 on 8080"]
        lines = await _read(rig.engine, container_id, LogRange(tail=-1, follow=False))
        assert [line.message for line in lines] == ["starting 7", "serving 7 on 8080"]
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", line.timestamp) for line in lines)
        since = LogRange(tail=-1, follow=False, since=lines[1].timestamp)
        again = [line.message for line in await _read(rig.engine, container_id, since)]
        assert again[-1] == "serving 7 on 8080"
        assert len(again) == 1 or not rig.exact_log_times
        assert await _read(rig.engine, container_id, LogRange(tail=0, follow=False)) == []
        heard: list[str] = []
        async with (
            asyncio.timeout(WAIT_SECS),
            rig.engine.logs(container_id, LogRange(tail=1, follow=True)) as following,
        ):
            async for line in following:
                heard.append(line.message)
                if len(heard) == 1:
                    await rig.engine.stop(container_id, 5.0)
                    await rig.engine.start(container_id)
                if heard.count("serving 7 on 8080") == 2:
                    await rig.engine.remove(container_id)
        kept = [message for message in heard if message != "stopping 7"]
        assert kept[:3] == ["serving 7 on 8080", "starting 7", "serving 7 on 8080"]

    async def test_figures_are_those_of_a_running_container(self, rig: Rig) -> None:
        container_id = await rig.running(rig.deployment())
        seen = await rig.seen(container_id)
        reading = (await rig.engine.readings([seen]))[container_id]
        assert reading.memory_limit_bytes == 64 * 1024 * 1024
        assert 0 < reading.working_set_bytes < 64 * 1024 * 1024
        assert reading.cpu_ns >= 0 and reading.at_ns > 0
        assert reading.pids >= 1
        await rig.engine.stop(container_id, 1.0)
        assert await rig.engine.readings([seen]) == {}, "also when the caller does not know yet"
        assert await rig.engine.readings([await rig.seen(container_id)]) == {}

    async def test_a_survey_gives_back_the_very_deployments(self, rig: Rig) -> None:
        volume = VolumeMount(name=f"{rig.project}-v", host_path=None, container_path="/v", read_only=True)
        one = await rig.obtained(rig.deployment(env={"SECRET": "s3cret"}, volumes=(volume,)))
        two = await rig.obtained(rig.deployment("d2", host_port=rig.port))
        one, two = [replace(item, resolved=present(await rig.engine.resolved_image(item))) for item in (one, two)]
        made = {(await rig.engine.create(one, 1))[0]: one, (await rig.engine.create(two, 2))[0]: two}
        surveyed = {
            item.replica.container_id: item.deployment
            for item in await rig.engine.survey()
            if item.replica.service_id == rig.service_id
        }
        assert surveyed == made

    async def test_the_container_of_a_failed_deployment_is_kept_and_counts_for_nothing(self, rig: Rig) -> None:
        deployment = await rig.obtained(rig.deployment(env={"FAIL": "exit"}))
        container_id, _ = await rig.engine.create(deployment, 1)
        await rig.engine.start(container_id)
        await asyncio.sleep(0.5)
        await rig.engine.keep_failed(container_id)
        await rig.engine.keep_failed(container_id)
        assert await rig.engine.observe(rig.service_id) == []
        assert await rig.engine.inspect(container_id) is None
        assert all(item.replica.service_id != rig.service_id for item in await rig.engine.survey())
        [kept] = await rig.engine.failed(rig.service_id)
        assert kept.deployment is not None and kept.deployment.spec == deployment.spec
        replica = kept.replica
        assert (replica.container_id, replica.deployment_id) == (container_id, deployment.deployment_id)
        assert (replica.is_up, replica.exit_code) == (False, 3)
        assert replica.name.endswith("-failed")
        assert "failing as told" in [line.message for line in await rig.engine.tail(container_id, 50)]
        await rig.engine.collect_garbage({}, frozenset({rig.service_id}))
        assert await rig.engine.has_image(deployment), "its image is kept with it"
        # The same deployment may be tried again, and fail again.
        again, _ = await rig.engine.create(deployment, 1)
        await rig.engine.keep_failed(again)
        assert {item.replica.container_id for item in await rig.engine.failed(rig.service_id)} == {container_id, again}
        for kept_id in (container_id, again):
            await rig.engine.remove(kept_id)
        assert await rig.engine.failed(rig.service_id) == []
        await rig.engine.collect_garbage({}, frozenset({rig.service_id}))
        assert not await rig.engine.has_image(deployment)
        await rig.engine.keep_failed(container_id)

    async def test_a_kept_container_does_not_keep_its_projects_network(self, rig: Rig) -> None:
        deployment = await rig.obtained(rig.deployment())
        project = deployment.spec.project_name
        container_id, _ = await rig.engine.create(deployment, 1)
        await rig.engine.keep_failed(container_id)
        await rig.engine.release_network(project)
        assert await rig.engine.networks(frozenset({project})) == []
        await rig.engine.remove(container_id)

    async def test_the_container_of_a_failed_release_command_is_kept_too(self, rig: Rig) -> None:
        wanted = await rig.obtained(rig.releasing("echo releasing; exit 3"))
        with pytest.raises(StepFailed) as caught:
            await rig.engine.run_release(wanted, 30.0)
        assert caught.value.container_id is not None
        await rig.engine.keep_failed(caught.value.container_id)
        await rig.engine.remove_releases(rig.service_id, 1.0)
        [kept] = await rig.engine.failed(rig.service_id)
        assert (kept.replica.container_id, kept.replica.exit_code) == (caught.value.container_id, 3)
        assert kept.deployment is not None and kept.deployment.spec.service_name == wanted.spec.service_name
        with pytest.raises(StepFailed) as again:
            await rig.engine.run_release(wanted, 30.0)
        assert again.value.container_id != caught.value.container_id, "it does not count as having run"
        await rig.engine.remove_releases(rig.service_id, 1.0)
        await rig.engine.remove(kept.replica.container_id)

    async def test_a_release_command_runs_once_per_deployment_and_is_no_replica(self, rig: Rig) -> None:
        rig.engine.drain_exits()
        wanted = await rig.obtained(rig.releasing("echo releasing; exit 0"))
        await rig.engine.run_release(wanted, 30.0)
        begun = asyncio.get_running_loop().time()
        await rig.engine.run_release(wanted, 30.0)
        assert asyncio.get_running_loop().time() - begun < 0.9, "it is known to have run"
        assert await rig.engine.observe(rig.service_id) == []
        assert all(item.replica.service_id != rig.service_id for item in await rig.engine.survey())
        assert all(end.service_id != rig.service_id for end in rig.engine.drain_exits().ended)
        await rig.engine.remove_releases(rig.service_id, 1.0)
        await rig.engine.remove_releases(rig.service_id, 1.0)

    async def test_a_release_command_that_fails_is_there_for_its_last_lines(self, rig: Rig) -> None:
        for script, limit in (("echo releasing; exit 3", 30.0), ("echo releasing; sleep 60", 2.0)):
            wanted = await rig.obtained(rig.releasing(script))
            with pytest.raises(StepFailed) as caught:
                await rig.engine.run_release(wanted, limit)
            assert caught.value.code == "RELEASE_FAILED"
            assert caught.value.container_id is not None
            [line] = await rig.engine.tail(caught.value.container_id, 10)
            assert line.message == "releasing"
            await rig.engine.remove_releases(rig.service_id, 1.0)

    async def test_a_change_is_told(self, rig: Rig) -> None:
        deployment = await rig.obtained(rig.deployment())
        told = asyncio.Event()
        async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT_SECS):
            watching = group.create_task(rig.engine.watch(told.set), name="watch")
            while not told.is_set():
                container_id, _ = await rig.engine.create(deployment, 1)
                await asyncio.sleep(0.05)
                await rig.engine.remove(container_id)
            watching.cancel()

    async def test_an_engine_that_is_away_is_told_apart_from_one_that_refuses(self, rig: Rig) -> None:
        away, some, deployment = rig.away, ContainerId("0" * 64), rig.deployment()
        for attempt in (
            away.ping(),
            away.info(),
            away.observe(rig.service_id),
            away.survey(),
            away.inspect(some),
            away.has_image(deployment),
            away.obtain_image(deployment, None, _ignore),
            away.ensure_network(rig.project),
            away.networks(frozenset({rig.project})),
            away.ensure_volume("v"),
            away.find_volumes(frozenset({"v"})),
            away.image_volumes(deployment),
            away.create(deployment, 1),
            away.start(some),
            away.stop(some, 1.0),
            away.restart(some, 1.0),
            away.remove(some),
            away.run_release(deployment, 1.0),
            away.remove_releases(rig.service_id, 1.0),
            away.tail(some, 1),
            away.execute(some, ["pwd"], env={}, working_dir=None, deadline_secs=1.0),
            away.collect_garbage({}, frozenset()),
        ):
            with pytest.raises(RuntimeUnavailable):
                await attempt
        assert await away.readings([replica(container_id=some), replica(state=ContainerState.EXITED)]) == {}


async def _read(engine: ContainerEngine, container_id: ContainerId, wanted: LogRange) -> list[LogLine]:
    async with asyncio.timeout(WAIT_SECS), engine.logs(container_id, wanted) as lines:
        return [line async for line in lines]
