"""Records from answers of old and new API versions, and from answers that lack everything."""

from __future__ import annotations

import pytest

from syntra.runtime.docker import fields, parsing


def test_an_inspect_of_api_1_52_has_its_addresses_per_network() -> None:
    details = parsing.container_details(
        {
            "Id": "c1",
            "Name": "/web",
            "Image": "sha256:1",
            "Config": {"Image": "shop/web:v1", "Tty": True, "Env": ["A=1", "B=x=y", "NOVALUE"], "Labels": {"k": "v"}},
            "HostConfig": {"RestartPolicy": {"Name": "always"}},
            "RestartCount": 3,
            "State": {"Status": "running", "Running": True, "Pid": 9, "Health": {"Status": "healthy"}},
            "NetworkSettings": {"Networks": {"app": {"IPAddress": "172.18.0.2"}}},
        }
    )
    assert (details.name, details.image_id, details.image_ref) == ("web", "sha256:1", "shop/web:v1")
    assert details.env == {"A": "1", "B": "x=y"}
    assert details.addresses == {"app": "172.18.0.2"}
    assert (details.restart_policy, details.restart_count, details.tty) == ("always", 3, True)
    assert (details.state.status, details.state.pid, details.state.health_status) == ("running", 9, "healthy")


def test_environment_and_raw_answer_stay_out_of_the_repr() -> None:
    source = {"Id": "c1", "Config": {"Env": ["TOKEN=hunter2"]}}
    assert "hunter2" not in repr(parsing.container_details(source))
    assert "hunter2" not in repr(parsing.image_details(source))


def test_answers_without_anything_become_empty_records() -> None:
    details = parsing.container_details({})
    assert (details.id, details.labels, details.addresses, details.state.health_status) == ("", {}, {}, None)
    assert parsing.container_summary(None).name == ""
    assert parsing.image_summary({"RepoTags": None}).repo_tags == ()
    assert parsing.network_details({"IPAM": {"Config": None}}).gateway == ""
    assert parsing.volume_details({"Labels": None}).labels == {}
    assert parsing.engine_event({}).time_nano == 0
    assert parsing.engine_info({}, api_version="1.41").cgroup_version == 1


def test_a_linked_container_is_listed_under_its_own_name() -> None:
    assert parsing.container_summary({"Names": ["/other/alias", "/web"]}).name == "web"


def test_images_without_names_have_none() -> None:
    summary = parsing.image_summary({"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]})
    assert (summary.repo_tags, summary.repo_digests) == ((), ())


def test_a_network_shows_its_ipv4_pool_and_addresses() -> None:
    pools = [{"Subnet": "fd00::/64", "Gateway": "fd00::1"}, {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]
    details = parsing.network_details(
        {"Id": "n", "IPAM": {"Config": pools}, "Containers": {"c1": {"IPv4Address": "172.18.0.2/16"}}}
    )
    assert (details.subnet, details.gateway) == ("172.18.0.0/16", "172.18.0.1")
    assert details.pools == (("fd00::/64", "fd00::1"), ("172.18.0.0/16", "172.18.0.1"))
    assert details.bridge == "br-n"
    assert details.containers == {"c1": "172.18.0.2"}


def test_events_are_read_without_the_legacy_fields_and_without_commands() -> None:
    event = parsing.engine_event(
        {
            "Type": "container",
            "Action": "exec_start: sh -c 'login --password hunter2'",
            "Actor": {"ID": "c1", "Attributes": {"name": "web"}},
            "timeNano": 1_700_000_000_000_000_001,
        }
    )
    assert (event.type, event.action, event.id) == ("container", "exec_start", "c1")
    assert event.time_nano == 1_700_000_000_000_000_001
    assert parsing.engine_event({"Action": "health_status: healthy"}).action == "health_status: healthy"


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (2.0, 2), (2.5, 0), (True, 0), ("3", 0), (None, 0)])
def test_numbers_are_read_strictly(value: object, expected: int) -> None:
    assert fields.integer({"n": value}, "n") == expected


def test_paths_into_anything_but_objects_are_absent() -> None:
    assert fields.walk({"a": ["b"]}, "a", "b") is None
    assert fields.flag({"a": 1}, "a") is False
