"""Containers as the engine describes them, turned into replicas."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given

from syntra.model.container import ContainerState, NameSource
from syntra.model.container_options import ContainerOptions, ExtraHost, Tmpfs, Ulimit
from syntra.model.image import ResolvedImage
from syntra.model.spec import VolumeMount
from syntra.model.spec_payload import fingerprint
from syntra.model.status import Health
from syntra.runtime.docker import body
from syntra.runtime.docker.body import ContainerContext, container_name, create_body
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.failed import failed_name
from syntra.runtime.docker.logs import Logs
from syntra.runtime.docker.parsing import container_details
from syntra.runtime.docker.replicas import deployment_of, failed_of, replica_of
from tests.model.samples import deployment, json_values, quick
from tests.narrow import present
from tests.runtime.docker.scratch import fresh_name

WANTED = deployment(
    env={"A": "1"},
    host_port=443,
    volumes=(
        VolumeMount(name="data", host_path=None, container_path="/data", read_only=False),
        VolumeMount(name="", host_path="/srv", container_path="/srv", read_only=False),
        VolumeMount(name="", host_path="/etc", container_path="/config", read_only=True),
    ),
)


def inspected(**changes: Any) -> dict[str, Any]:
    """`GET /containers/{id}/json` of a running replica; the keys of `changes` replace parts of State."""
    created: dict[str, Any] = create_body(
        WANTED,
        2,
        ContainerContext(
            owner="o",
            instance="5a",
            image="i",
            stop_signal=None,
            network="syntra-shop",
            gateway="172.18.0.1",
            otlp_ports=None,
            logging_driver="",
        ),
    )
    state = {
        "Status": "running",
        "Running": True,
        "Pid": 4711,
        "ExitCode": 0,
        "Error": "",
        "OOMKilled": False,
        "StartedAt": "2026-01-02T03:04:05.000000006Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    }
    return {
        "Id": "c1",
        "Name": "/syn-svc_123-dep_abc1-2",
        "Image": "sha256:1",
        "Created": "2026-01-02T03:04:04Z",
        "RestartCount": 3,
        "State": state | changes,
        "Config": {"Labels": created["Labels"], "Env": [*created["Env"], "PATH=/bin"], "Image": "i"},
        "HostConfig": {"PortBindings": created["HostConfig"]["PortBindings"], "RestartPolicy": {"Name": "always"}},
        "Mounts": [
            {"Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data", "RW": True},
            {"Type": "bind", "Source": "/srv", "RW": True},
            {"Type": "bind", "Source": "/etc", "RW": False},
            {"Type": "tmpfs", "Source": "", "RW": True},
        ],
        "NetworkSettings": {"Networks": {"syntra-shop": {"IPAddress": "172.18.0.2"}}},
    }


def test_a_running_replica_is_read_whole() -> None:
    found = present(replica_of(container_details(inspected())))
    assert (found.container_id, found.name) == ("c1", "syn-svc_123-dep_abc1-2")
    assert (found.service_id, found.deployment_id, found.index) == ("svc_123", "dep_abc12345", 2)
    assert found.spec_hash == fingerprint(WANTED.spec)
    assert found.state is ContainerState.RUNNING
    assert found.started_ns is not None
    assert found.started_ns - found.created_ns == 1_000_000_006
    assert (found.restart_count, found.exit_code, found.pid) == (3, None, 4711)
    assert found.addresses == {"syntra-shop": "172.18.0.2"}
    assert found.host_ports == {443}
    assert found.writable_mounts == {"data", "/srv"}


def test_its_deployment_stands_in_its_labels_and_environment() -> None:
    made_of = ResolvedImage(image_id="sha256:1", digest="")
    assert deployment_of(container_details(inspected())) == dataclasses.replace(WANTED, resolved=made_of)


@pytest.mark.parametrize(
    ("label", "source"),
    [
        (None, NameSource.ENGINE),
        ("agent", NameSource.AGENT),
        ("agent+engine", NameSource.BOTH),
        ("?", NameSource.ENGINE),
    ],
)
def test_whom_a_replica_asks_for_names_stands_in_its_label(label: str | None, source: NameSource) -> None:
    described = inspected()
    labels = described["Config"]["Labels"]
    labels.pop("syntra.names")
    if label is not None:
        labels["syntra.names"] = label
    found = present(replica_of(container_details(described)))
    assert found.names is source


def test_a_stopped_replica_tells_how_it_ended_and_what_it_will_want_again() -> None:
    stopped = inspected(Status="exited", Running=False, Pid=0, ExitCode=137, OOMKilled=True, Error="no space")
    found = present(replica_of(container_details(stopped)))
    assert (found.state, found.exit_code, found.oom_killed, found.error) == (
        ContainerState.EXITED,
        137,
        True,
        "no space",
    )
    assert found.host_ports == {443}


def test_between_two_runs_of_a_crash_loop_it_tells_how_the_last_one_ended() -> None:
    looping = inspected(Status="restarting", Running=True, ExitCode=3)
    assert present(replica_of(container_details(looping))).exit_code == 3
    assert present(replica_of(container_details(inspected(ExitCode=0)))).exit_code is None


def test_a_kept_container_is_known_by_the_name_that_its_labels_give_and_is_no_replica() -> None:
    plain = container_details(inspected())
    marked = failed_name(plain.labels)
    assert failed_of(plain) is None
    for name in (marked, f"{marked}-0a1b"):
        kept = dataclasses.replace(plain, name=name)
        assert replica_of(kept) is None
        assert present(failed_of(kept)).container_id == plain.id
    for name in ("anything-failed", marked.removesuffix("-failed"), f"{marked}0"):
        other = dataclasses.replace(plain, name=name)
        assert failed_of(other) is None and replica_of(other) is not None


def test_a_replica_that_never_started_has_no_start() -> None:
    created = inspected(Status="created", Running=False, StartedAt="0001-01-01T00:00:00Z")
    found = present(replica_of(container_details(created)))
    assert (found.state, found.started_ns) == (ContainerState.CREATED, None)


@pytest.mark.parametrize("status", ContainerState)
def test_every_state_of_the_engine_is_known(status: ContainerState) -> None:
    found = present(replica_of(container_details(inspected(Status=status.value))))
    assert found.state is status


def test_a_container_without_our_labels_is_no_replica() -> None:
    for label, value in ((body.MANAGED, None), (body.MANAGED, "false"), (body.SERVICE, None), (body.DEPLOYMENT, None)):
        foreign = inspected()
        labels = {key: text for key, text in foreign["Config"]["Labels"].items() if key != label}
        foreign["Config"]["Labels"] = labels if value is None else {**labels, label: value}
        assert replica_of(container_details(foreign)) is None


@pytest.mark.parametrize("index", ["", "x", "-1", "0", "٣", "9" * 5000, "1.5"])
def test_an_index_that_is_none_is_the_first(index: str) -> None:
    odd = inspected()
    odd["Config"]["Labels"][body.REPLICA] = index
    found = present(replica_of(container_details(odd)))
    assert found.index == 1


def test_ports_that_the_engine_chooses_are_not_asked_for() -> None:
    for bindings in (None, {}, {"80/tcp": None}, {"80/tcp": [{"HostPort": ""}, {"HostPort": "9" * 5000}, None]}):
        chosen = inspected()
        chosen["HostConfig"]["PortBindings"] = bindings
        found = present(replica_of(container_details(chosen)))
        assert found.host_ports == frozenset()


def test_a_container_of_another_kind_is_no_replica() -> None:
    release = inspected()
    release["Config"]["Labels"] = {**release["Config"]["Labels"], "syntra.kind": "release"}
    assert replica_of(container_details(inspected())) is not None
    assert replica_of(container_details(release)) is None


def test_a_replica_of_an_image_that_was_a_release_container_is_a_replica() -> None:
    assert inspected()["Config"]["Labels"]["syntra.kind"] == "", (
        "the engine takes a label that is not set from the image"
    )


@pytest.mark.parametrize(
    ("said", "health"),
    [
        ("starting", Health.UNKNOWN),
        ("healthy", Health.HEALTHY),
        ("unhealthy", Health.UNHEALTHY),
        ("none", None),
        ("", None),
        ("other", None),
    ],
)
def test_the_image_s_own_check_is_read_with_its_last_output(said: str, health: Health | None) -> None:
    log = [{"ExitCode": 1, "Output": "first"}, {"ExitCode": 1, "Output": "x" * 5000}]
    found = replica_of(container_details(inspected(Health={"Status": said, "FailingStreak": 2, "Log": log})))
    assert found is not None
    assert (found.image_health, found.image_health_output) == (health, "x" * 4096)


@quick
@given(json_values)
def test_anything_unexpected_in_an_answer_is_passed_over(value: object) -> None:
    for path in (
        ["Mounts"],
        ["HostConfig", "PortBindings"],
        ["HostConfig"],
        ["State", "StartedAt"],
        ["Created"],
        ["State", "Health"],
    ):
        odd: Any = copy.deepcopy(inspected())
        at = odd
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        assert replica_of(container_details(odd)) is not None


async def test_a_container_made_on_an_engine_reads_back_as_its_deployment(endpoint: Endpoint, image: str) -> None:
    service = fresh_name()
    wanted = deployment(
        service_id=service,
        command=("sleep", "1"),
        env={"A": "x=y\nz", "EMPTY": "", "SYNTRA_MINE": "1"},
        host_port=18443,
        cpu_nanos=10_000_000,
        memory_bytes=6 * 2**20,
        labels={"team": "x"},
        volumes=(VolumeMount(name="", host_path="/usr", container_path="/data", read_only=False),),
    )
    context = ContainerContext(
        owner="o",
        instance="5a",
        image=image,
        stop_signal=None,
        network="bridge",
        gateway="172.18.0.1",
        otlp_ports=None,
        logging_driver="json-file",
    )
    created: dict[str, Any] = create_body(wanted, 2, context)
    # The default network takes no aliases; the product's own networks do.
    del created["NetworkingConfig"]
    name = container_name(wanted.spec.service_id, wanted.deployment_id, 2)
    async with EngineClient(endpoint) as client:
        containers = Containers(client)
        container_id = await containers.create(name, created)
        try:
            details = await containers.inspect(container_id)
        finally:
            await containers.remove(container_id, force=True)
    found = present(replica_of(details))
    assert (found.name, found.service_id, found.index) == (name, service, 2)
    assert (found.state, found.started_ns) == (ContainerState.CREATED, None)
    assert found.host_ports == {18443}
    assert found.writable_mounts == {"/usr"}
    assert found.spec_hash == fingerprint(wanted.spec)
    assert present(deployment_of(details)).spec == wanted.spec
    assert present(present(deployment_of(details)).resolved).image_id == details.image_id


@pytest.mark.engine
async def test_every_option_of_a_spec_is_in_effect_on_an_engine(endpoint: Endpoint, image: str) -> None:
    options = ContainerOptions(
        entrypoint=("sh", "-c"),
        user="65534:65534",
        working_dir="/tmp/work",
        init=True,
        stop_signal="SIGQUIT",
        stop_grace_secs=2.5,
        shm_bytes=2**20,
        tmpfs=(Tmpfs(path="/mem", options="size=64k"), Tmpfs(path="/plain")),
        ulimits=(Ulimit(name="nofile", soft=100, hard=200),),
        extra_hosts=(ExtraHost(name="db", address="10.0.0.5"),),
        read_only=True,
        cap_drop=("ALL",),
    )
    script = (
        "id -u; id -g; pwd; ulimit -n; ulimit -Hn; grep -c 10.0.0.5.*db /etc/hosts; touch /x 2>/dev/null || echo no;"
        " grep CapBnd /proc/self/status | cut -f2; df -k /dev/shm | tail -1 | awk '{print $2}';"
        " df -k /mem | tail -1 | awk '{print $2}'; cat /proc/1/comm"
    )
    wanted = deployment(service_id=fresh_name(), command=(script,), options=options)
    context = ContainerContext(
        owner="o",
        instance="5a",
        image=image,
        stop_signal=None,
        network="bridge",
        gateway="172.18.0.1",
        otlp_ports=None,
        logging_driver="json-file",
    )
    created: dict[str, Any] = create_body(wanted, 1, context)
    del created["NetworkingConfig"]
    created["HostConfig"]["RestartPolicy"] = {"Name": "no"}
    async with EngineClient(endpoint) as client:
        containers = Containers(client)
        container_id = await containers.create(fresh_name(), created)
        try:
            await containers.start(container_id)
            await containers.wait(container_id, deadline=30)
            said = [line.message async for line in Logs(client).follow(container_id, tail=None, follow=False)]
            details = await containers.inspect(container_id)
        finally:
            await containers.remove(container_id, force=True)
    unable = "0" * 16
    assert said[:-1] == ["65534", "65534", "/tmp/work", "100", "200", "1", "no", unable, "1024", "64"]
    assert "init" in said[-1]
    found = replica_of(details)
    assert found is not None
    assert found.stop_grace_secs == 3.0, "whole seconds, never fewer than asked for"
    assert present(deployment_of(details)).spec == wanted.spec
    assert present(present(deployment_of(details)).resolved).image_id == details.image_id
