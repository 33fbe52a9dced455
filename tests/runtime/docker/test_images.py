"""Images on a real engine with a real registry: pulls that work and every way in which they fail."""

from __future__ import annotations

import base64
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import DockerError, EngineProtocolError, PullFailed, PullFailure, StreamBroken
from syntra.runtime.docker.images import Images, registry_header
from syntra.runtime.docker.jsonlines import JsonStream
from syntra.runtime.docker.paths import Query, path
from syntra.runtime.docker.pull import PullProgress
from syntra.runtime.docker.records import RegistryAuth
from tests.narrow import present
from tests.runtime.docker.conftest import Registry
from tests.runtime.docker.fake_engine import Peer, answer, asked
from tests.runtime.docker.scratch import container

OWN_BYTES = 2 * 1024 * 1024
ANN = RegistryAuth(username="ann", password="s3cret", server_address="127.0.0.1")


@asynccontextmanager
async def pushed(endpoint: Endpoint, image: str, host: str) -> AsyncIterator[tuple[Images, str, str]]:
    """An image in the registry of which the engine has all but the last layer: its repository and digest."""
    repository = f"{host}/test-{secrets.token_hex(4)}"
    # Random, so that no engine has it, and long enough for its download to be reported.
    fill = ["dd", "if=/dev/urandom", "of=/tmp/own", "bs=65536", f"count={OWN_BYTES // 65536}"]
    async with container(endpoint, image, fill) as made:
        await made.containers.wait(made.id, deadline=20)
        query: Query = {"container": made.id, "repo": repository, "tag": "v1"}
        await made.client.request("POST", "/commit", query=query, body={})
    async with EngineClient(endpoint) as client:
        images = Images(client)
        digest = await push(client, repository)
        await images.remove(f"{repository}:v1")
        try:
            yield images, repository, digest
        finally:
            for reference in (f"{repository}:v1", f"{repository}:kept", f"{repository}@{digest}"):
                await images.remove(reference)


async def push(client: EngineClient, repository: str) -> str:
    decoder, digest = JsonStream(), ""
    async with client.stream(
        "POST",
        path("images", repository, "push"),
        query={"tag": "v1"},
        headers={"X-Registry-Auth": registry_header(ANN)},
        idle_deadline=30,
    ) as stream:
        async for chunk in stream:
            for message in decoder.feed(chunk):
                assert "error" not in message, message
                aux = message.get("aux")
                digest = str(aux["Digest"]) if isinstance(aux, dict) and "Digest" in aux else digest
    return digest


async def test_an_image_is_pulled_by_tag_and_by_digest(endpoint: Endpoint, image: str, registry: Registry) -> None:
    async with pushed(endpoint, image, registry.open) as (images, repository, digest):
        assert await images.inspect(f"{repository}:v1") is None
        seen: list[PullProgress] = []
        await images.pull(repository, "v1", inactivity_secs=30, on_progress=seen.append)
        found = present(await images.inspect(f"{repository}:v1"))
        assert (found.repo_tags, found.repo_digests) == ((f"{repository}:v1",), (f"{repository}@{digest}",))
        assert found.env["BUILT"] == "yes"
        assert (seen[-1].percent, seen[-1].layers_done, seen[-1].layers_total) == (100.0, 2, 2)
        assert 0 < seen[-1].bytes_done == seen[-1].bytes_total
        await images.remove(f"{repository}:v1")
        await images.pull(repository, digest, inactivity_secs=30)
        found = present(await images.inspect(f"{repository}@{digest}"))
        assert found.repo_tags == (), "an image pulled by digest has no tag"
        await images.tag(found.id, repository, "kept")
        found = present(await images.inspect(found.id))
        assert found.repo_tags == (f"{repository}:kept",)


async def test_credentials_are_used_and_missing_or_wrong_ones_are_told(
    endpoint: Endpoint, image: str, registry: Registry
) -> None:
    async with pushed(endpoint, image, registry.locked) as (images, repository, _):
        for auth in (None, RegistryAuth(username="ann", password="wrong-one")):
            with pytest.raises(PullFailed) as caught:
                await images.pull(repository, "v1", auth, inactivity_secs=30)
            assert caught.value.reason is PullFailure.UNAUTHORIZED, caught.value.message
            assert caught.value.image == f"{repository}:v1"
            assert "wrong-one" not in str(caught.value)
        await images.pull(repository, "v1", ANN, inactivity_secs=30)
        assert await images.inspect(f"{repository}:v1") is not None


async def test_an_error_after_the_first_progress_is_seen(endpoint: Endpoint, image: str, registry: Registry) -> None:
    """The status is 200 by then, and the failure is the last message of the body."""
    async with pushed(endpoint, image, registry.open) as (images, repository, _):
        layers = [blob for blob in registry.storage.glob("**/blobs/sha256/*/*/data") if _is_own_layer(blob)]
        max(layers, key=lambda blob: blob.stat().st_mtime_ns).unlink()
        seen: list[PullProgress] = []
        with pytest.raises(PullFailed, match="unknown blob") as caught:
            await images.pull(repository, "v1", inactivity_secs=30, on_progress=seen.append)
        assert caught.value.reason is PullFailure.OTHER
        assert seen, "there was progress before"
        assert await images.inspect(f"{repository}:v1") is None


def _is_own_layer(blob: Path) -> bool:
    """Random bytes do not compress."""
    return blob.stat().st_size >= OWN_BYTES


async def test_what_is_not_there_and_who_does_not_answer_are_told_apart(endpoint: Endpoint, registry: Registry) -> None:
    async with EngineClient(endpoint) as client:
        images = Images(client)
        with pytest.raises(PullFailed) as caught:
            await images.pull(f"{registry.open}/absent", "v1", inactivity_secs=30)
        assert caught.value.reason is PullFailure.NOT_FOUND, caught.value.message
        with pytest.raises(PullFailed) as caught:
            await images.pull("127.0.0.1:1/absent", "v1", inactivity_secs=30)
        assert caught.value.reason is PullFailure.UNREACHABLE, caught.value.message
        with pytest.raises(PullFailed) as caught:
            await images.pull("127.0.0.1:1/UPPER", "v1", inactivity_secs=30)
        assert caught.value.reason is PullFailure.OTHER
        with pytest.raises(PullFailed, match="neither tag nor digest"):
            await images.pull(f"{registry.open}/absent", "", inactivity_secs=30)


async def test_a_silent_registry_is_a_stalled_pull(endpoint: Endpoint) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with EngineClient(endpoint) as client:
            with pytest.raises(PullFailed, match=r"no progress for 0\.2 s") as caught:
                await Images(client).pull(f"127.0.0.1:{silent.getsockname()[1]}/a", "v1", inactivity_secs=0.2)
        assert caught.value.reason is PullFailure.STALLED


async def test_names_are_given_listed_and_taken_away(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, ["sleep", "1000"]) as made:
        images = Images(made.client)
        repository = f"{image.partition(':')[0]}-names"
        await images.tag(image, repository, "v2")
        (row,) = await images.list(reference=f"{repository}:*")
        assert f"{repository}:v2" in row.repo_tags
        details = present(await images.inspect(image))
        assert (row.id, row.size_bytes > 0) == (details.id, True)
        assert await images.list(labels={"syntra.test": "none"}) == []
        assert await images.remove(f"{repository}:v2"), "another name is left"
        assert await images.remove(f"{repository}:v2"), "gone already"
        assert not await images.remove(image), "a container uses it"


async def test_a_pull_that_drops_or_makes_no_sense_is_not_a_success(tmp_path: Path) -> None:
    first = json.dumps({"status": "Pulling fs layer", "id": "a"}).encode() + b"\r\n"
    bodies = {
        1: (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + f"{len(first):x}\r\n".encode() + first + b"\r\n"
        ),
        2: b"HTTP/1.1 200 OK\r\n\r\n" + first[:10],
        3: b"HTTP/1.1 200 OK\r\n\r\n" + first + b"<html>",
    }

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(bodies[peer.number])

    kinds: dict[int, type[DockerError]] = {1: StreamBroken, 2: StreamBroken, 3: EngineProtocolError}
    async with asked(tmp_path, script) as (_, client):
        for number in bodies:
            with pytest.raises(kinds[number]):
                await Images(client).pull("r", "v1", inactivity_secs=5)


async def test_the_credentials_header_is_url_safe_and_nothing_prints_it(tmp_path: Path) -> None:
    auth = RegistryAuth(username="ann", password="\xff\xfe~~~???>>>", server_address="r")
    value = registry_header(auth)
    assert json.loads(base64.urlsafe_b64decode(value))["password"] == auth.password
    assert not set(value) & set("+/")
    assert auth.password not in repr(auth)
    assert "tok" not in repr(RegistryAuth(identity_token="tok"))

    async def script(peer: Peer) -> None:
        request = await peer.request()
        assert request.headers["x-registry-auth"] == value
        assert request.target == "/v1.41/images/create?fromImage=r%2Fa&tag=v1"
        await peer.send(answer(200, {"status": "done"}))

    async with asked(tmp_path, script) as (_, client):
        await Images(client).pull("r/a", "v1", auth, inactivity_secs=5)
