"""Which volume a replica mounts: by project, by what was there before, by what the image declares."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syntra.model.container import ContainerState
from syntra.model.ids import ContainerId, ServiceId
from syntra.model.spec import ImageVolumes, ServiceSpec, VolumeMount
from syntra.model.volume import Mount, Volume, VolumeUser
from syntra.runtime.containers.volumes import (
    MAX_NAME,
    as_written,
    candidates,
    image_volume_name,
    is_anonymous,
    remaining,
    resolve,
)
from tests.model.samples import quick, spec
from tests.runtime.containers.world import replica

ANONYMOUS, OTHER = "a1" * 32, "b2" * 32
DATA = VolumeMount(name="data", host_path=None, container_path="/data", read_only=False)


def user(service: str = "svc_123", project: str = "shop", *, is_writer: bool = True, name: str = "") -> VolumeUser:
    return VolumeUser(
        container_id=ContainerId("c"),
        service_id=ServiceId(service) if service else None,
        service_name=name,
        project=project,
        is_writer=is_writer,
    )


def volume(name: str, *users: VolumeUser, is_managed: bool = True, project: str = "") -> Volume:
    return Volume(name=name, is_managed=is_managed, project=project, users=users)


def name_of(*existing: Volume, project: str = "shop", **changes: Any) -> str:
    """The engine's name for volume `data`, given these volumes."""
    wanted = spec(project_name=project, volumes=(dataclasses.replace(DATA, **changes),))
    [mount] = resolve(wanted, existing, declared=(), replicas=()).mounts(1)
    return mount.source


def image_volumes(*paths: str, replicas: Any = (), index: int = 1, **of: Any) -> dict[str, str]:
    return resolve(spec(**of), (), declared=paths, replicas=replicas).image_volumes(index)


def test_a_volume_has_its_projects_name_in_front() -> None:
    assert name_of() == "shop_data"
    assert name_of(volume("shop_data", project="shop"), volume("data", user())) == "shop_data"
    assert candidates(spec(volumes=(DATA,))) >= {"data", "shop_data"}


def test_a_bare_name_stays_with_the_project_that_uses_it() -> None:
    assert name_of(volume("data", user(), is_managed=False)) == "data"
    assert name_of(volume("data", user(), user("svc_9", "staging"))) == "data"
    assert name_of(volume("data")) == "data"
    assert name_of(volume("data", user("svc_9"))) == "data"
    assert name_of(volume("data", user("svc_9"), is_managed=False)) == "data"


def test_a_bare_name_that_is_another_projects_or_another_programs_is_left_alone() -> None:
    assert name_of(volume("data", is_managed=False)) == "shop_data"
    assert name_of(volume("data", project="staging")) == "shop_data"
    assert name_of(volume("data", user("svc_9", "staging"))) == "shop_data"
    assert name_of(volume("data", user("", ""))) == "shop_data"


def test_two_projects_whose_names_meet_do_not_share() -> None:
    taken = volume("shop_a_data", project="shop_a")
    wanted = dataclasses.replace(DATA, name="a_data")
    found = resolve(spec(volumes=(wanted,)), [taken], declared=(), replicas=())
    [mount] = found.mounts(1)
    assert re.fullmatch(r"shop_a_data-[0-9a-f]{10}", mount.source)
    later = [taken, volume(mount.source, project="shop")]
    assert resolve(spec(volumes=(wanted,)), later, declared=(), replicas=()).mounts(1) == (mount,)


def test_an_external_volume_is_taken_by_its_name_and_missed_when_it_is_not_there() -> None:
    external = spec(volumes=(dataclasses.replace(DATA, external=True),))
    found = resolve(external, [], declared=(), replicas=())
    assert (found.mounts(1)[0].source, found.missing) == ("data", ("data",))
    assert [str(step) for step in found.ensured([1])] == ["expect volume data"]
    assert candidates(external) == {"data"}
    there = resolve(external, [volume("data", user("svc_9", "staging"))], declared=(), replicas=())
    assert (there.mounts(1)[0].source, there.missing) == ("data", ())


def test_binds_are_mounted_as_they_are_and_need_nothing() -> None:
    bind = VolumeMount(name="x", host_path="/srv", container_path="/srv", read_only=True)
    found = resolve(spec(volumes=(bind,)), [], declared=(), replicas=())
    assert found.mounts(1) == (Mount(source="/srv", target="/srv", read_only=True, is_bind=True),)
    assert found.ensured([1]) == []
    assert candidates(spec(volumes=(bind,))) == frozenset()


def test_a_declared_path_without_a_mount_gets_a_volume_for_each_index() -> None:
    assert image_volumes("/var/lib/db/", index=2) == {"/var/lib/db": "shop_svc_123_var.lib.db_2"}
    # The engine makes a volume below a mount all the same; only the same path is covered.
    assert image_volumes("/data", "/data/log", volumes=(DATA,)) == {"/data/log": "shop_svc_123_data.log_1"}
    assert image_volumes("/data", image_volumes=ImageVolumes.DISCARD) == {}
    assert [str(step) for step in resolve(spec(), (), declared=["/d"], replicas=()).ensured([1, 3])] == [
        "ensure volume shop_svc_123_d_1",
        "ensure volume shop_svc_123_d_3",
    ]


def test_an_anonymous_volume_of_a_replica_is_taken_over_by_its_index() -> None:
    old = replica(1, volumes={"/data": ANONYMOUS})
    assert image_volumes("/data", replicas=[old]) == {"/data": ANONYMOUS}
    assert image_volumes("/data", replicas=[old], index=2) == {"/data": "shop_svc_123_data_2"}


def test_what_runs_or_ran_last_has_the_data_and_what_never_started_has_none() -> None:
    def at(number: int, name: str, state: ContainerState = ContainerState.EXITED) -> Any:
        return replica(number, index=1, state=state, volumes={"/data": name})

    created = at(9, OTHER, ContainerState.CREATED)
    assert image_volumes("/data", replicas=[at(1, ANONYMOUS), created]) == {"/data": ANONYMOUS}
    assert image_volumes("/data", replicas=[at(2, OTHER), at(1, ANONYMOUS)]) == {"/data": OTHER}
    running = at(1, ANONYMOUS, ContainerState.RUNNING)
    assert image_volumes("/data", replicas=[running, at(2, OTHER)]) == {"/data": ANONYMOUS}
    # A volume that the spec named earlier is not the image's.
    assert image_volumes("/data", replicas=[at(3, "shop_data"), at(1, ANONYMOUS)]) == {"/data": "shop_svc_123_data_1"}
    without = replica(5, index=1)
    assert image_volumes("/data", replicas=[without, at(1, ANONYMOUS)]) == {"/data": ANONYMOUS}


def test_another_writer_is_named_and_a_reader_is_not() -> None:
    def told(*users: VolumeUser, **changes: Any) -> tuple[str, ...]:
        wanted = spec(volumes=(dataclasses.replace(DATA, **changes),))
        return resolve(wanted, [volume("shop_data", *users, project="shop")], declared=(), replicas=()).shared

    assert told(user(), user("svc_9", name="worker")) == (
        "volume shop_data is also mounted writable by service worker",
    )
    assert told(user("svc_8", name="b"), user("svc_9", name="a"), user("", ""), user("svc_9", name="a")) == (
        "volume shop_data is also mounted writable by a container of another program, service a and service b",
    )
    assert told(user("svc_9", is_writer=False)) == ()
    assert told(user("svc_9"), read_only=True) == ()


def test_what_stays_when_a_service_is_removed() -> None:
    held = [replica(1, volumes={"/a": ANONYMOUS, "/b": "shop_b"}), replica(2, volumes={"/b": "shop_b"})]
    assert remaining(held, None) == (ANONYMOUS, "shop_b")
    assert remaining(held, spec(image_volumes=ImageVolumes.DISCARD)) == ("shop_b",)
    assert is_anonymous(ANONYMOUS)
    assert not is_anonymous(ANONYMOUS[:-1])


def test_without_a_look_at_the_engine_volumes_have_the_names_that_are_written() -> None:
    assert [mount.source for mount in as_written(spec(volumes=(DATA,))).mounts(1)] == ["data"]


@quick
@given(
    st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", fullmatch=True),
    st.text(min_size=1, max_size=300).map(lambda text: "/" + text.replace("\0", "")),
    st.integers(1, 100),
)
def test_the_name_of_an_image_volume_is_legal_bounded_and_its_own(
    project: str, service: str, path: str, index: int
) -> None:
    def name(project: str, service: str, path: str, index: int) -> str:
        wanted: ServiceSpec = spec(project_name=project, service_id=ServiceId(service))
        return image_volume_name(wanted, path, index)

    found = name(project, service, path, index)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", found)
    assert len(found) <= MAX_NAME
    others = {name(project, service, path + "x", index), name(project, service, path, index + 1)}
    others |= {name(project + "1", service, path, index), name(project, service + "1", path, index)}
    # What moves from one part of the name to the next is another name too.
    others.add(name(f"{project}_{service}", "data", path, index))
    assert found not in others
