"""The proxy's create body, and what tells two of them apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from syntra.model.image import ImageRef
from syntra.runtime.docker.body import LOG_LIMITS
from syntra.runtime.docker.parsing import container_details
from syntra.runtime.docker.proxy_body import FINGERPRINT, Bind, WantedProxy, create_body, differences, fingerprint
from syntra.runtime.docker.records import ContainerDetails

WANTED = WantedProxy(
    owner="0123456789ab",
    image=ImageRef(registry="", repository="traefik", tag="v3.7.13"),
    arguments=("--ping=true", "--entryPoints.web.address=:80"),
    binds=(Bind(source="/data/dynamic", target="/syntra/dynamic", read_only=True),),
)


def made(wanted: WantedProxy) -> ContainerDetails:
    """The container as the engine would tell of it."""
    body: dict[str, Any] = create_body(wanted, "json-file", instance="5a")
    return container_details({"Config": {key: body[key] for key in ("Image", "Cmd", "Labels")}})


def test_it_is_no_service_and_has_an_owner() -> None:
    assert create_body(WANTED, "json-file", instance="5a")["Labels"] == {
        "syntra.component": "proxy",
        "syntra.instance": "5a",
        "syntra.owner": "0123456789ab",
        "syntra.fingerprint": fingerprint(WANTED),
    }


def test_rights_are_few() -> None:
    host = create_body(WANTED, "json-file", instance="5a")["HostConfig"]
    assert host == {
        "NetworkMode": "host",
        "RestartPolicy": {"Name": "always"},
        "CapDrop": ["ALL"],
        "CapAdd": ["NET_BIND_SERVICE"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m"},
        "Mounts": [{"Type": "bind", "Source": "/data/dynamic", "Target": "/syntra/dynamic", "ReadOnly": True}],
        "LogConfig": {"Type": "json-file", "Config": LOG_LIMITS},
    }


def test_logs_are_limited_where_the_driver_can() -> None:
    host = create_body(WANTED, "journald", instance="5a")["HostConfig"]
    assert isinstance(host, dict)
    assert "LogConfig" not in host


def test_files_of_another_user_can_be_read() -> None:
    host = create_body(dataclasses.replace(WANTED, as_root=False), "journald", instance="5a")["HostConfig"]
    assert isinstance(host, dict)
    assert host["CapAdd"] == ["NET_BIND_SERVICE", "DAC_OVERRIDE"]


def test_one_that_was_made_so_fits() -> None:
    assert differences(WANTED, made(WANTED)) == ()
    assert differences(WANTED, made(dataclasses.replace(WANTED))) == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image": ImageRef(registry="", repository="traefik", tag="v3.8.0")}, ("image traefik:v3.8.0 instead of",)),
        ({"arguments": ("--ping=true",)}, ("not --entryPoints.web.address=:80",)),
        ({"arguments": (*WANTED.arguments, "--x=1")}, ("still --x=1",)),
        ({"arguments": ("--ping=false", WANTED.arguments[1])}, ("not --ping=true", "still --ping=false")),
        ({"binds": ()}, ("other mounts or rights",)),
        ({"as_root": False}, ("other mounts or rights",)),
    ],
)
def test_what_differs_is_said(changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    found = differences(WANTED, made(dataclasses.replace(WANTED, **changes)))
    assert len(found) == len(expected)
    assert all(sentence.startswith(start) for sentence, start in zip(found, expected, strict=True)), found


def test_a_container_without_our_mark_does_not_fit() -> None:
    body: dict[str, Any] = create_body(WANTED, "json-file", instance="5a")
    del body["Labels"][FINGERPRINT]
    there = container_details({"Config": {key: body[key] for key in ("Image", "Cmd", "Labels")}})
    assert differences(WANTED, there) == ("other mounts or rights",)
