"""Commands in pods: on a real cluster with subprotocol v5, and on a server that has only v4."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from syntra.model.command import ExecStreams
from syntra.model.ids import ContainerId
from syntra.runtime.errors import ExecTimedOut, StepFailed
from syntra.runtime.kubernetes.access import Access, Source
from syntra.runtime.kubernetes.client import KubernetesClient
from syntra.runtime.kubernetes.exec_session import V4, V5, PodExec
from tests.cluster import Cluster
from tests.cluster_images import image
from tests.on_loop import OnLoop
from tests.runtime.kubernetes.kubeconfig import kubeconfig

POD = "exec"
BINARY = bytes(range(256)) * 1000


@pytest.fixture
def pod(cluster: Cluster, cluster_token: str, cluster_images: str) -> ContainerId:
    """A pod that serves."""
    space = f"syntra-{cluster_token}"
    container = {"name": "service", "image": image("v1"), "imagePullPolicy": "IfNotPresent"}
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}},
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"namespace": space, "name": POD},
                "spec": {
                    "containers": [container],
                    "terminationGracePeriodSeconds": 1,
                    "automountServiceAccountToken": False,
                },
            },
        ]
    )
    cluster.kubectl("wait", "-n", space, "--for=condition=Ready", f"pod/{POD}", "--timeout=60s", timeout=70)
    return ContainerId(f"{space}/{POD}")


@asynccontextmanager
async def _execs(path: Path) -> AsyncIterator[PodExec]:
    async with KubernetesClient(await Access.open(Source(kubeconfig=str(path)))) as client:
        yield PodExec(client)


@pytest.fixture
def execs(cluster: Cluster) -> OnLoop[PodExec]:
    return OnLoop(_execs(cluster.kubeconfig))


async def test_commands_in_a_real_pod(execs: PodExec, pod: ContainerId) -> None:
    async def run(*argv: str, deadline: float = 20.0, **around: object) -> tuple[int, bytes, bytes]:
        env, folder = around.get("env", {}), around.get("folder")
        assert isinstance(env, dict) and (folder is None or isinstance(folder, str))
        ended = await execs.execute(pod, argv, env=env, working_dir=folder, deadline_secs=deadline)
        return ended.exit_code, ended.stdout, ended.stderr

    assert await run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    assert await run("sh", "-c", "pwd; echo $A", env={"A": "b c"}, folder="/tmp") == (0, b"/tmp\nb c\n", b"")
    assert (await run("no-such-program"))[0] in (126, 127)
    assert (await run("pwd", folder="/nowhere"))[0] != 0
    with pytest.raises(ExecTimedOut, match="its processes were ended") as late:
        await run("sh", "-c", "echo begun; sleep 1007", deadline=1.0)
    assert late.value.stdout == b"begun\n"
    assert b"1007" not in (await run("ps"))[1]
    with pytest.raises(StepFailed) as gone:
        await execs.execute(ContainerId(f"{pod}-gone"), ["true"], env={}, working_dir=None, deadline_secs=5)
    assert gone.value.code == "CONTAINER_NOT_FOUND"


async def test_the_end_of_input_reaches_a_command(execs: PodExec, pod: ContainerId) -> None:
    streams = ExecStreams(stdin=True, tty=False)
    async with execs.attach(pod, ["cat"], env={}, working_dir=None, streams=streams) as session:
        await session.write(BINARY)
        session.end_input()
        found = bytearray()
        async with asyncio.timeout(20):
            while pieces := await session.read():
                found += b"".join(data for _, data in pieces)
            assert await session.exit_code() == 0
    assert bytes(found) == BINARY


async def test_leaving_a_command_ends_it(execs: PodExec, pod: ContainerId) -> None:
    streams = ExecStreams(stdin=False, tty=False)
    async with execs.attach(pod, ["sleep", "1009"], env={}, working_dir=None, streams=streams):
        await asyncio.sleep(0.3)
    ended = await execs.execute(pod, ["ps"], env={}, working_dir=None, deadline_secs=10)
    assert b"1009" not in ended.stdout


async def test_a_terminal_has_the_size_that_was_set(execs: PodExec, pod: ContainerId) -> None:
    streams = ExecStreams(stdin=True, tty=True)
    command = ["sh", "-c", "read line; stty size"]
    async with execs.attach(pod, command, env={}, working_dir=None, streams=streams) as session:
        await session.resize(41, 117)
        await asyncio.sleep(0.3)
        await session.write(b"\n")
        said = bytearray()
        async with asyncio.timeout(20):
            while pieces := await session.read():
                said += b"".join(data for _, data in pieces)
    assert b"41 117" in said


@asynccontextmanager
async def _old_server(status: str, folder: Path) -> AsyncIterator[tuple[PodExec, list[str]]]:
    """A server with v4 only: it sends both streams in pieces, and then how the command ended."""
    asked: list[str] = []

    async def handle(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.extend(parse_qs(urlsplit(socket.request.path).query).get("command", [])[-1:])
        assert socket.subprotocol == V4
        if asked[-1] == ":":
            await socket.send(b'\x03{"status":"Success"}')
            return
        for message in (b"\x01", b"\x01ou", b"\x02err\n", b"\x01t\n", b"\x03" + status.encode()):
            await socket.send(message)

    async with serve(handle, "127.0.0.1", 0, subprotocols=[Subprotocol(V4)], compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        path = kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{port}")
        async with _execs(path) as execs:
            yield execs, asked


NON_ZERO = '{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}'


@pytest.mark.parametrize(("status", "code"), [('{"status":"Success"}', 0), (NON_ZERO, 7)])
async def test_a_server_of_before_1_30_speaks_v4(tmp_path: Path, status: str, code: int) -> None:
    assert V5 != V4
    async with _old_server(status, tmp_path) as (execs, asked):
        ended = await execs.execute(ContainerId("shop/web"), ["hi"], env={}, working_dir=None, deadline_secs=5)
        assert (ended.exit_code, ended.stdout, ended.stderr) == (code, b"out\n", b"err\n")
        assert asked == [":", "hi"]


@pytest.mark.parametrize("status", ['{"status":"Failure","message":"no such container"}', "not JSON", "[]"])
async def test_an_end_without_a_code_is_a_failure(tmp_path: Path, status: str) -> None:
    async with _old_server(status, tmp_path) as (execs, _):
        with pytest.raises(StepFailed, match="cannot run hi"):
            await execs.execute(ContainerId("shop/web"), ["hi"], env={}, working_dir=None, deadline_secs=5)
