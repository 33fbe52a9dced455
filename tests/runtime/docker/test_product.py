"""An engine is what it says it is, and what Podman does differently is made up for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from syntra.model.ids import ServiceId
from syntra.runtime.docker import parsing
from syntra.runtime.docker.containers import Containers
from syntra.runtime.docker.errors import Conflict, EngineError, engine_error
from syntra.runtime.docker.frames import Frame, FrameType, LineJoiner
from syntra.runtime.docker.garbage import MARK_TAG, mark_repository, unneeded
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.networks import Networks
from syntra.runtime.docker.product import (
    Product,
    familiar_name,
    podman_create_body,
    podman_log_driver,
    podman_network_options,
    product_of,
)
from tests.runtime.docker.fake_engine import Peer, answer, asked

PODMAN_PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nLibpod-Api-Version: 4.3.1\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "product"),
    [
        ({"api-version": "1.41", "server": "Docker/20.10.24 (linux)"}, Product.DOCKER),
        ({}, Product.DOCKER),
        ({"api-version": "1.41", "libpod-api-version": "4.3.1"}, Product.PODMAN),
        ({"server": "Libpod/5.2.0 (linux)"}, Product.PODMAN),
    ],
)
def test_the_headers_of_a_ping_tell_the_product(headers: dict[str, str], product: Product) -> None:
    assert product_of(headers) is product


def test_what_is_to_be_restarted_always_is_restarted_unless_it_was_stopped() -> None:
    always: dict[str, Any] = {"Image": "a", "HostConfig": {"RestartPolicy": {"Name": "always"}, "Memory": 1}}
    expected = {"Image": "a", "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}, "Memory": 1}}
    assert podman_create_body(always) == expected
    assert always["HostConfig"]["RestartPolicy"] == {"Name": "always"}
    for other in ({"Image": "a"}, {"HostConfig": {"RestartPolicy": {"Name": "no"}}}, {"HostConfig": None}):
        assert podman_create_body(other) == other


async def test_podman_is_not_asked_for_calls_that_it_does_not_have(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(201, {"Id": "c1"}))

    async with asked(tmp_path, script) as (fake, client):
        fake.ping = PODMAN_PING
        containers = Containers(client)
        await containers.set_restarts("c1", "no")
        assert fake.requests == []
        await containers.create("web", {"HostConfig": {"RestartPolicy": {"Name": "always"}}})
        assert b"unless-stopped" in fake.requests[0].body
        assert await client.product() is Product.PODMAN


async def test_an_image_that_the_agent_has_not_pulled_counts_as_made_here(tmp_path: Path) -> None:
    digest = "docker.io/library/app@sha256:" + "0" * 64
    mark = f"docker.io/{mark_repository('app:1')}:{MARK_TAG}"

    async def script(peer: Peer) -> None:
        for tags in (["docker.io/library/app:1"], ["docker.io/library/app:1", mark]):
            await peer.request()
            await peer.send(answer(200, {"Id": "sha256:1", "RepoTags": tags, "RepoDigests": [digest]}))

    async with asked(tmp_path, script) as (fake, client):
        fake.ping = PODMAN_PING
        images = Images(client)
        found = await images.inspect("app:1")
        assert found is not None
        assert (found.repo_tags, found.repo_digests) == (("app:1",), ())
        pulled = await images.inspect("app:1")
        assert pulled is not None
        assert pulled.repo_digests == ("app@sha256:" + "0" * 64,)


async def test_a_network_of_podman_gets_the_interface_that_its_id_tells(tmp_path: Path) -> None:
    name = "syntra-shop"
    row = {"Name": name, "Id": hashlib.sha256(name.encode()).hexdigest(), "Driver": "bridge"}

    async def script(peer: Peer) -> None:
        for status, document in ((200, []), (200, []), (201, {"Id": row["Id"]}), (200, [row])):
            await peer.request()
            await peer.send(answer(status, document))

    async with asked(tmp_path, script) as (fake, client):
        fake.ping = PODMAN_PING
        made = await Networks(client).ensure(name, {})
        assert podman_network_options(name) == {"com.docker.network.bridge.name": made.bridge}
        assert made.bridge.encode() in fake.requests[2].body
        assert len(made.bridge) <= 15, "the kernel's limit for the name of an interface"


@pytest.mark.parametrize(
    "words",
    [
        'creating container storage: the container name "x" is already in use by 9c4a: that name is already in use',
        "network name net already used: network already exists",
        "volume with name data already exists: volume already exists",
        "can only create exec sessions on running containers: container state improper",
    ],
)
def test_a_conflict_is_one_whatever_its_status(words: str) -> None:
    assert isinstance(engine_error(500, words, method="POST", path="/x"), Conflict)


def test_other_failures_stay_what_they_are() -> None:
    error = engine_error(500, "that name is already in use, it seems, but the disk is full", method="POST", path="/x")
    assert type(error) is EngineError


def test_names_of_images_are_dockers() -> None:
    names = ["docker.io/library/nginx:1", "docker.io/acme/api:2", "ghcr.io/library/x:1", "library/y:1", "localhost/z:1"]
    assert [familiar_name(name) for name in names] == [
        "nginx:1",
        "acme/api:2",
        "ghcr.io/library/x:1",
        "library/y:1",
        "localhost/z:1",
    ]


def test_a_removed_container_is_destroyed() -> None:
    event = {"Type": "container", "Action": "remove", "Actor": {"ID": "c1"}}
    assert parsing.engine_event(event).action == "destroy"
    assert parsing.engine_event({**event, "Type": "image"}).action == "remove"


@pytest.mark.parametrize("told", ["2026-11-30T02:58:52Z", "2026-11-30T03:58:52+01:00", "2026-11-30T02:58:52.0Z"])
def test_times_of_log_lines_have_one_width_and_zone(told: str) -> None:
    joiner = LineJoiner(tty=False)
    [record] = joiner.feed(Frame(type=FrameType.STDOUT, payload=f"{told} hello\n".encode()))
    assert (record.timestamp, record.message) == ("2026-11-30T02:58:52.000000000Z", "hello")


@pytest.mark.parametrize(
    ("told", "driver"), [("", "json-file"), ("k8s-file", "json-file"), ("journald", "journald"), ("none", "none")]
)
def test_log_files_of_podman_have_a_limit_too(told: str, driver: str) -> None:
    assert podman_log_driver(told) == driver


def test_digests_of_pins_and_marks_are_no_names_to_remove() -> None:
    mark = mark_repository("app:1")
    images = [["app:1", f"{mark}:{MARK_TAG}", f"app@sha256:{'0' * 64}", f"{mark}@sha256:{'0' * 64}"]]
    assert unneeded(images, {}, frozenset({ServiceId("web")}), "0a1b") == ["app:1", f"{mark}:{MARK_TAG}"]
