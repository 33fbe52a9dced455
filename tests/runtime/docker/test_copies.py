"""Copies from and to a real container: the engine's archives and the container's own `tar` do the same."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from syntra.model.command import CopyWay
from syntra.model.ids import ContainerId
from syntra.runtime.copies import Copies, CopySession, Target
from syntra.runtime.docker.archives import Archives
from syntra.runtime.docker.client import EngineClient
from syntra.runtime.docker.commands import Commands
from syntra.runtime.docker.endpoint import Endpoint
from syntra.runtime.docker.errors import EngineTimeout, StreamBroken
from syntra.runtime.errors import RuntimeUnavailable, StepFailed
from syntra.runtime.tar_copies import TarCopies
from tests.runtime.docker.fake_engine import Peer, asked
from tests.runtime.docker.scratch import container

FOREVER = ["sleep", "1000"]
KINDS: dict[str, Callable[[EngineClient], Copies]] = {
    "archives": Archives,
    "tar": lambda client: TarCopies(Commands(client)),
}
STAT_OF_FOLDER = "eyJtb2RlIjoyMTQ3NDg0MTQxfQ=="
FOLDER = f"HTTP/1.1 200 OK\r\nX-Docker-Container-Path-Stat: {STAT_OF_FOLDER}\r\n\r\n".encode()


def packed(**files: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


async def everything(session: CopySession) -> bytes:
    data = b""
    while pieces := await session.read():
        data += b"".join(piece for _, piece in pieces)
    assert await session.exit_code() == 0
    return data


async def given(copies: Copies, made: ContainerId, path: str, archive: bytes) -> Target | None:
    async with copies.copy(made, CopyWay.TO, path) as session:
        for begin in range(0, len(archive), 65536):
            await session.write(archive[begin : begin + 65536])
        session.end_input()
        assert await everything(session) == b""
        return session.target


@pytest.mark.engine
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_written_is_read_again(endpoint: Endpoint, image: str, kind: str) -> None:
    content = bytes(range(256)) * 20_000
    async with container(endpoint, image, FOREVER) as made:
        copies, it = KINDS[kind](made.client), ContainerId(made.id)
        assert await given(copies, it, "/tmp", packed(a=content)) == Target(folder="/tmp", name="")
        assert await given(copies, it, "/tmp/b", packed(b=b"b")) == Target(folder="/tmp", name="b")
        for path, names in (("/tmp/a", ["a"]), ("/tmp/.", [".", "a", "b"]), ("/tmp/b", ["b"])):
            async with copies.copy(it, CopyWay.FROM, path) as session:
                assert session.target is None
                data = await everything(session)
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                assert sorted(one.name.removeprefix("./") or "." for one in archive) == names
                if path == "/tmp/a":
                    member = archive.extractfile(archive.getmembers()[0])
                    assert member is not None and member.read() == content


@pytest.mark.engine
@pytest.mark.parametrize("kind", KINDS)
async def test_a_copy_that_fails_says_why(endpoint: Endpoint, image: str, kind: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        copies, it = KINDS[kind](made.client), ContainerId(made.id)
        with pytest.raises(StepFailed, match=r"cannot copy /nope: .*[Nn]o such file") as failed:
            async with copies.copy(it, CopyWay.FROM, "/nope") as session:
                await everything(session)
        assert failed.value.code == "COPY_FAILED"
        with pytest.raises(StepFailed, match="cannot copy /nope/a: "):
            await given(copies, it, "/nope/a", packed(a=b"a"))
        with pytest.raises(StepFailed, match="cannot copy /tmp: "):
            await given(copies, it, "/tmp", b"this is no archive" * 100)


@pytest.mark.engine
async def test_an_image_without_tar_is_told_where_only_tar_copies(endpoint: Endpoint, image: str) -> None:
    async with container(endpoint, image, FOREVER) as made:
        removing = ["/bin/busybox", "rm", "/bin/tar", "/bin/test"]
        await Commands(made.client).execute(ContainerId(made.id), removing, env={}, working_dir=None, deadline_secs=20)
        copies = KINDS["tar"](made.client)
        with pytest.raises(StepFailed, match="the container has no `tar`; add it to the image"):
            async with copies.copy(ContainerId(made.id), CopyWay.FROM, "/etc") as session:
                await everything(session)
        with pytest.raises(StepFailed, match="the container has no `test`; add it to the image"):
            await given(copies, ContainerId(made.id), "/tmp", packed(a=b"a"))


async def test_an_archive_that_the_engine_ends_too_early_is_no_success(tmp_path: Path) -> None:
    whole = packed(a=b"a")

    async def script(peer: Peer) -> None:
        await peer.request()
        body = whole[:1024]
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with asked(tmp_path, script) as (_, client):
        with pytest.raises(StepFailed, match="cannot copy /a: the engine sent only a part of it"):
            async with Archives(client).copy(ContainerId("c1"), CopyWay.FROM, "/a") as session:
                await everything(session)


async def test_an_answer_in_the_middle_of_the_upload_ends_it_with_the_engines_reason(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while (await peer.request()).method == "HEAD":
            await peer.send(FOLDER)
        await peer.reader.readexactly(100_000)
        body = b'{"message": "no space left on device"}'
        await peer.send(b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await peer.closed()

    async with asked(tmp_path, script) as (engine, client):
        copies = Archives(client)
        async with copies.copy(ContainerId("c1"), CopyWay.TO, "/a") as session:
            with pytest.raises(RuntimeUnavailable):
                while True:
                    await session.write(bytes(65536))
            with pytest.raises(StepFailed, match=r"cannot copy /a: .*no space left on device"):
                await session.exit_code()
        assert engine.requests[-1].headers["transfer-encoding"] == "chunked"
        assert "path=%2Fa&noOverwriteDirNonDir=1" in engine.requests[-1].target


async def test_an_engine_that_takes_nothing_holds_the_upload_back_and_leaving_it_closes(tmp_path: Path) -> None:
    sent = 0
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        while (await peer.request()).method == "HEAD":
            await peer.send(FOLDER)
        await blocked.wait()
        await peer.closed()
        closed.set()

    blocked = asyncio.Event()
    async with asked(tmp_path, script) as (_, client):
        async with Archives(client).copy(ContainerId("c1"), CopyWay.TO, "/a") as session:
            with pytest.raises(TimeoutError):
                while True:
                    async with asyncio.timeout(0.2):
                        await session.write(bytes(65536))
                    sent += 65536
            blocked.set()
        async with asyncio.timeout(5):
            await closed.wait()
        assert sent < 2 * 1024 * 1024


async def test_an_engine_that_vanishes_during_the_upload_is_unavailable(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while (await peer.request()).method == "HEAD":
            await peer.send(FOLDER)

    async with (
        asked(tmp_path, script) as (_, client),
        Archives(client).copy(ContainerId("c1"), CopyWay.TO, "/a") as session,
    ):
        with pytest.raises(RuntimeUnavailable):
            await session.exit_code()


@pytest.mark.parametrize("stuck", ["in the body", "after it"])
async def test_an_engine_that_is_stuck_ends_the_upload_with_its_time(tmp_path: Path, stuck: str) -> None:
    given_up = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await given_up.wait()
        await peer.closed()

    async with (
        asked(tmp_path, script) as (_, client),
        asyncio.timeout(10),
        client.upload("PUT", "/containers/c1/archive", idle_deadline=0.2) as upload,
    ):
        if stuck == "in the body":
            with pytest.raises(StreamBroken):
                while True:
                    await upload.write(bytes(65536))
        else:
            await upload.write(b"all of it")
            upload.end()
        with pytest.raises(EngineTimeout, match=r"within 0\.2 s"):
            await upload.answered()
        given_up.set()
