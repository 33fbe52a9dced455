"""Container options of a deploy payload: what they become, which are refused, and that old fingerprints stay."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from syntra.model.container_options import ContainerOptions, ExtraHost, Tmpfs, Ulimit
from syntra.model.errors import InvalidField
from syntra.model.fields import Fields
from syntra.model.options_payload import REFUSED, parse_options, render_options
from syntra.model.spec_payload import fingerprint, parse_deployment, render_deployment
from tests.model.samples import container_options, current_payload, json_values, placed, quick, spec

EVERY = {
    "entrypoint": ["/bin/sh", "-c"],
    "user": "app:app",
    "working_dir": "/srv//app/",
    "init": True,
    "stop_signal": "quit",
    "stop_grace_seconds": 0,
    "shm_size": "64m",
    "tmpfs": [{"path": "/tmp", "options": "size=64m,mode=1777"}, {"path": "/run/"}],
    "ulimits": {"nofile": {"soft": 1024, "hard": 2048}, "core": -1},
    "extra_hosts": ["db:10.0.0.5", "six:fd00::1", "gw:host-gateway"],
    "read_only": True,
    "cap_drop": ["ALL", "CAP_NET_RAW", "net_raw"],
}


def parse(**config: Any) -> ContainerOptions:
    return parse_options(Fields(config, "config"))


def test_every_option_is_read() -> None:
    assert parse(**EVERY) == ContainerOptions(
        entrypoint=("/bin/sh", "-c"),
        user="app:app",
        working_dir="/srv/app",
        init=True,
        stop_signal="SIGQUIT",
        stop_grace_secs=0.0,
        shm_bytes=64 * 1024 * 1024,
        tmpfs=(Tmpfs(path="/tmp", options="size=64m,mode=1777"), Tmpfs(path="/run")),
        ulimits=(Ulimit(name="core", soft=-1, hard=-1), Ulimit(name="nofile", soft=1024, hard=2048)),
        extra_hosts=(
            ExtraHost(name="db", address="10.0.0.5"),
            ExtraHost(name="six", address="fd00::1"),
            ExtraHost(name="gw", address="host-gateway"),
        ),
        read_only=True,
        cap_drop=("ALL", "NET_RAW"),
    )


@quick
@given(container_options())
def test_rendered_options_read_back_as_they_were(options: ContainerOptions) -> None:
    assert parse(**json.loads(json.dumps(render_options(options)))) == options


def test_options_that_are_not_set_leave_no_trace() -> None:
    assert parse_options(None) == parse() == ContainerOptions()
    assert render_options(ContainerOptions()) == {}


@pytest.mark.parametrize("key", sorted(EVERY))
def test_each_option_counts_in_the_fingerprint(key: str) -> None:
    assert fingerprint(spec(options=parse(**{key: EVERY[key]}))) != fingerprint(spec())


def test_options_survive_a_whole_deployment() -> None:
    payload = current_payload()
    payload["config"] |= EVERY
    deployment = parse_deployment(Fields(payload))
    assert deployment.spec.options == parse(**EVERY)
    assert parse_deployment(Fields(render_deployment(deployment))) == deployment


def test_in_an_older_flat_shape_the_names_mean_nothing_of_ours() -> None:
    flat = {"deployment_id": "d", "service_id": "s", "image": "nginx", "user": {"id": 7}, "privileged": True}
    assert parse_deployment(Fields(flat)).spec.options == ContainerOptions()


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_ends_isolation_is_refused_by_name(key: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(**{key: ["x"]})
    assert str(caught.value).startswith(f"config.{key}: is refused: ")
    assert parse(**{key: None}) == parse(**{key: []}) == ContainerOptions(), "what asks for nothing does no harm"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"entrypoint": "sh"}, "config.entrypoint: a string is not a list"),
        ({"user": "a b"}, "config.user: 'a b' is not a user"),
        ({"user": "root:"}, "config.user: 'root:' is not a user"),
        ({"working_dir": "srv"}, "config.working_dir: 'srv' is not an absolute path"),
        ({"working_dir": "/proc/self/fd/7"}, "is not an absolute path outside /proc"),
        ({"init": "yes"}, "config.init: 'yes' is not true or false"),
        ({"stop_signal": "KILL"}, "config.stop_signal: 'KILL' is not a signal"),
        ({"stop_signal": "65"}, "config.stop_signal: '65' is not a signal"),
        ({"stop_signal": "0"}, "config.stop_signal: '0' is not a signal"),
        ({"stop_grace_seconds": 3601}, "config.stop_grace_seconds: 3601 is out of range"),
        ({"shm_size": "much"}, "config.shm_size: 'much' is not a size"),
        ({"tmpfs": [{"path": "/"}]}, "config.tmpfs[0].path: '/' is not an absolute path below"),
        ({"tmpfs": [{"path": "/a/../b"}]}, "config.tmpfs[0].path"),
        ({"tmpfs": [{"path": "/a", "options": "size=1 m"}]}, "config.tmpfs[0].options: 'size=1 m' is not a list"),
        ({"tmpfs": [{"path": "/a"}, {"path": "/a/"}]}, "config.tmpfs[1].path: /a is given twice"),
        ({"ulimits": {"files": 1}}, "config.ulimits.files: is not a limit; these are: "),
        ({"ulimits": {"nofile": -2}}, "config.ulimits.nofile: -2 is out of range"),
        ({"ulimits": {"nofile": {"soft": 1}}}, "config.ulimits.nofile.hard: is missing"),
        ({"ulimits": {"nofile": {"soft": 2, "hard": 1}}}, "the soft limit 2 is above the hard limit 1"),
        ({"ulimits": {"nofile": {"soft": -1, "hard": 1}}}, "the soft limit -1 is above the hard limit 1"),
        ({"extra_hosts": ["db"]}, "config.extra_hosts[0]: 'db' is not NAME:ADDRESS"),
        ({"extra_hosts": ["db:10.0.0"]}, "config.extra_hosts[0]: 'db:10.0.0' is not NAME:ADDRESS"),
        ({"extra_hosts": ["db:fe80::1%eth0"]}, "config.extra_hosts[0]"),
        ({"extra_hosts": ["a b:10.0.0.5"]}, "config.extra_hosts[0]"),
        ({"cap_drop": ["NET RAW"]}, "config.cap_drop[0]: 'NET RAW' is not a capability"),
    ],
)
def test_a_mistake_is_named(config: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(**config)
    assert expected in str(caught.value)


def test_a_volume_and_a_tmpfs_cannot_share_a_place() -> None:
    payload = placed(current_payload(), "config.tmpfs", [{"path": "/data/"}])
    with pytest.raises(InvalidField, match=r"config\.tmpfs: a volume is mounted at /data already"):
        parse_deployment(Fields(payload))


@quick
@given(json_values)
def test_any_value_anywhere_is_taken_or_refused(value: object) -> None:
    for key in (*EVERY, *REFUSED):
        try:
            parse(**{key: value})
        except InvalidField as error:
            assert error.field.startswith(f"config.{key}")
            str(error).encode()
