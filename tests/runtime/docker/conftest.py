"""The real engine for the contract tests: an image made from busybox, and a registry on the loopback address."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.endpoint import Endpoint, find_endpoint
from syntra.runtime.docker.errors import EngineUnreachable
from syntra.runtime.docker.images import Images
from syntra.runtime.docker.jsonlines import JsonStream

APPLETS = (
    *(
        "sh",
        "sleep",
        "echo",
        "cat",
        "printf",
        "yes",
        "head",
        "dd",
        "true",
        "false",
        "seq",
        "tr",
        "pwd",
        "env",
        "tar",
        "test",
    ),
    "stty",
)


def unavailable(reason: str) -> None:
    """Skip on a laptop, fail where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_itemcollected(item: pytest.Item) -> None:
    """What asks for the endpoint needs an engine."""
    if "endpoint" in getattr(item, "fixturenames", ()):
        item.add_marker("engine")


@pytest.fixture(scope="session")
def endpoint() -> Endpoint:
    """A real engine."""
    found = find_endpoint(os.environ)

    async def ping() -> None:
        async with EngineClient(found) as client:
            await client.negotiate(deadline=10)

    try:
        asyncio.run(ping())
    except EngineUnreachable as exc:
        unavailable(str(exc))
    return found


def _rootfs() -> bytes:
    busybox = shutil.which("busybox")
    if busybox is None:
        unavailable("busybox-static is not installed")
    assert busybox is not None
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("bin", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(directory)
        tar.add(os.path.realpath(busybox), "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return stream.getvalue()


@pytest.fixture(scope="session")
def image(endpoint: Endpoint) -> Iterator[str]:
    """The name of a small image with a shell, removed with its other names at the end."""
    repository = f"syntra-test-client-{secrets.token_hex(4)}"

    async def make() -> None:
        async with EngineClient(endpoint) as client:
            decoder = JsonStream()
            async with client.stream(
                "POST",
                "/images/create",
                query={"fromSrc": "-", "repo": repository, "tag": "v1", "changes": "ENV BUILT=yes"},
                body=_rootfs(),
                headers={"Content-Type": "application/x-tar"},
                idle_deadline=60,
            ) as stream:
                values = [value async for chunk in stream for value in decoder.feed(chunk)]
            assert not any("error" in value for value in values), values

    async def remove() -> None:
        async with EngineClient(endpoint) as client:
            images = Images(client)
            found = await images.inspect(f"{repository}:v1")
            for tag in found.repo_tags if found is not None else ():
                await images.remove(tag)

    asyncio.run(make())
    yield f"{repository}:v1"
    asyncio.run(remove())


@dataclass(frozen=True)
class Registry:
    """A registry without a password on `open`, and one with user `ann` and password `s3cret` on `locked`."""

    open: str
    locked: str
    storage: Path


_HTPASSWD = "ann:$2b$04$QdXcTEqK/k3rU8QceiuZ4.px8R92bJbXOMy2fd7B9g3EsF9mXpacm\n"


@pytest.fixture(scope="session")
def registry(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Two registries over one storage; the engine takes plain HTTP on the loopback network."""
    binary = shutil.which("docker-registry")
    if binary is None:
        unavailable("docker-registry is not installed")
    assert binary is not None
    root = tmp_path_factory.mktemp("registry")
    (root / "htpasswd").write_text(_HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(_serve(binary, root, "open", ""))
        locked = stack.enter_context(_serve(binary, root, "locked", auth))
        yield Registry(open=opened, locked=locked, storage=root / "storage")


@contextlib.contextmanager
def _serve(binary: str, root: Path, name: str, extra: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (root / f"{name}.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {root}/storage}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n{extra}"
    )
    with (
        (root / f"{name}.log").open("wb") as log,
        subprocess.Popen([binary, "serve", str(root / f"{name}.yml")], stdout=log, stderr=log) as process,
    ):
        try:
            _wait_serving(f"http://127.0.0.1:{port}/v2/", deadline=time.monotonic() + 20)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_serving(url: str, *, deadline: float) -> None:
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as exc:
            exc.close()
            return  # it asks for a password
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
