"""Detection asks real sockets, in order, and remembers what it found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from syntra.runtime.detect import Choice, RuntimeKind
from syntra.runtime.finder import ANSWER_SECS, MEMORY_FILE, find_runtime

DOCKER = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n"
PODMAN = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nLibpod-Api-Version: 4.3.1\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Settings:
    runtime_type: str = "auto"
    docker_socket: str = ""
    kubernetes_config: Path | None = None


@asynccontextmanager
async def answering(path: Path, reply: bytes) -> AsyncIterator[None]:
    """A socket that answers every ping; empty: that never does."""

    handlers: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await reader.read()
        writer.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    server = await asyncio.start_unix_server(handle, path)
    try:
        yield
    finally:
        server.close()
        if handlers:
            await asyncio.wait(handlers, timeout=5)


async def find(folder: Path, settings: Settings | None = None, **environ: str) -> Choice:
    return await find_runtime(
        settings or Settings(),
        environ,
        folder,
        docker_socket=str(folder / "docker.sock"),
        podman_socket=str(folder / "podman.sock"),
        kubeconfigs=(str(folder / "admin.conf"),),
    )


async def test_docker_comes_before_podman_and_both_are_said(tmp_path: Path) -> None:
    async with answering(tmp_path / "docker.sock", DOCKER), answering(tmp_path / "podman.sock", PODMAN):
        choice = await find(tmp_path)
    assert (choice.kind, choice.address) == (RuntimeKind.DOCKER, str(tmp_path / "docker.sock"))
    assert choice.reason == f"Docker answers at {tmp_path}/docker.sock"
    assert f"Podman answers at {tmp_path}/podman.sock" in choice.warnings[0]


async def test_the_sockets_of_a_user_are_found(tmp_path: Path) -> None:
    for name, reply in (("docker.sock", DOCKER), ("podman/podman.sock", PODMAN)):
        own = tmp_path / "own"
        async with answering(own / name, reply):
            choice = await find(tmp_path, XDG_RUNTIME_DIR=str(own))
        assert (choice.address, choice.warnings) == (str(own / name), ())
        (tmp_path / MEMORY_FILE).unlink()
        (own / name).unlink()


async def test_two_paths_to_one_socket_are_one_engine(tmp_path: Path) -> None:
    (tmp_path / "docker.sock").symlink_to(tmp_path / "podman.sock")
    async with answering(tmp_path / "podman.sock", PODMAN):
        choice = await find(tmp_path)
    assert (choice.address, choice.warnings) == (str(tmp_path / "docker.sock"), ())
    assert choice.reason.startswith("Podman answers")


async def test_what_was_found_is_remembered_and_waited_for(tmp_path: Path) -> None:
    async with answering(tmp_path / "docker.sock", DOCKER):
        await find(tmp_path)
    (tmp_path / "docker.sock").unlink(missing_ok=True)
    memory = tmp_path / MEMORY_FILE
    assert json.loads(memory.read_text()) == {"runtime": "docker", "address": str(tmp_path / "docker.sock")}
    async with answering(tmp_path / "podman.sock", PODMAN):
        choice = await find(tmp_path)
        assert choice.address == str(tmp_path / "docker.sock")
        assert str(memory) in choice.reason
        assert "the agent waits" in choice.warnings[0]
        memory.unlink()
        assert (await find(tmp_path)).address == str(tmp_path / "podman.sock")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runtime": "docker"}', '{"runtime": "x", "address": "/a"}'])
async def test_a_memory_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / MEMORY_FILE).write_text(content)
    async with answering(tmp_path / "podman.sock", PODMAN):
        assert (await find(tmp_path)).address == str(tmp_path / "podman.sock")


async def test_nothing_is_remembered_that_did_not_answer_or_was_named(tmp_path: Path) -> None:
    nothing = await find(tmp_path)
    assert "no container engine" in nothing.warnings[0]
    assert f"{tmp_path}/podman.sock (" in nothing.warnings[0]
    named = Settings(docker_socket=str(tmp_path / "docker.sock"))
    async with answering(tmp_path / "docker.sock", DOCKER):
        assert (await find(tmp_path, named)).reason == "runtime.docker_socket names an engine"
        assert (await find(tmp_path, DOCKER_HOST="unix:///x.sock")).reason == "DOCKER_HOST names an engine"
        assert (await find(tmp_path, Settings(runtime_type="docker"))).reason == "runtime.runtime_type is docker"
    assert not (tmp_path / MEMORY_FILE).exists()


async def test_a_named_cluster_and_a_pod_are_kubernetes(tmp_path: Path) -> None:
    async with answering(tmp_path / "docker.sock", DOCKER):
        pod = await find(tmp_path, KUBERNETES_SERVICE_HOST="10.0.0.1")
        by_file = await find(tmp_path, Settings(kubernetes_config=Path("/kube")))
        by_variable = await find(tmp_path, KUBECONFIG="/kube2")
    assert [choice.kind for choice in (pod, by_file, by_variable)] == [RuntimeKind.KUBERNETES] * 3
    assert [by_file.address, by_variable.address] == ["/kube", ""]


async def test_a_socket_that_accepts_and_says_nothing_does_not_hold_up_the_start(tmp_path: Path) -> None:
    async with answering(tmp_path / "docker.sock", b""), answering(tmp_path / "podman.sock", PODMAN):
        begun = asyncio.get_running_loop().time()
        choice = await find(tmp_path)
        assert asyncio.get_running_loop().time() - begun < ANSWER_SECS + 5
    assert choice.address == str(tmp_path / "podman.sock")


async def test_default_kubeconfigs_are_tried_when_no_engine_answers(tmp_path: Path) -> None:
    tried: list[Path] = []

    async def answers(path: Path) -> bool:
        tried.append(path)
        return path.name == "admin.conf"

    async def search() -> Choice:
        return await find_runtime(
            Settings(),
            {"HOME": str(tmp_path)},
            tmp_path,
            cluster_answers=answers,
            docker_socket=str(tmp_path / "docker.sock"),
            podman_socket=str(tmp_path / "podman.sock"),
            kubeconfigs=(str(tmp_path / "none"), str(tmp_path / "admin.conf")),
        )

    for name in (".kube/config", "admin.conf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    async with answering(tmp_path / "docker.sock", DOCKER):
        assert (await search()).kind is RuntimeKind.DOCKER
        assert tried == []
    (tmp_path / MEMORY_FILE).unlink()
    choice = await search()
    assert (choice.kind, choice.address) == (RuntimeKind.KUBERNETES, str(tmp_path / "admin.conf"))
    assert tried == [tmp_path / ".kube/config", tmp_path / "admin.conf"]
    assert json.loads((tmp_path / MEMORY_FILE).read_text())["runtime"] == "kubernetes"
