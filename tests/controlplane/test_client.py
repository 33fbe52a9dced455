"""The client's own part: URLs, failures, secrets, long waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from syntra.controlplane.settings import Timings
from syntra.utils.errors import AgentError
from tests.controlplane.client import ControlPlaneClient, ControlPlaneClientError
from tests.controlplane.harness import deploy_payload, running


@pytest.mark.parametrize("url", ["127.0.0.1:7420", "ftp://host", "http://", ""])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(AgentError, match="give one"):
        ControlPlaneClient(url, "token")


@pytest.mark.parametrize("token", ["", "\n", "a\nb-secret", "é-secret"])
def test_a_token_that_cannot_be_one_is_refused_without_quoting_it(token: str) -> None:
    with pytest.raises(AgentError, match="read it from its file") as refused:
        ControlPlaneClient("http://localhost", token)
    assert "secret" not in str(refused.value)


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(ControlPlaneClient("http://localhost:1", "secret"))


def test_a_token_file_is_read_with_its_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    assert isinstance(ControlPlaneClient.from_token_file("http://localhost:1", tmp_path / "token"), ControlPlaneClient)
    with pytest.raises(AgentError, match="cannot read the operator token"):
        ControlPlaneClient.from_token_file("http://localhost:1", tmp_path / "none")


async def test_nobody_listening_is_unreachable(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        client = plane.client
    with pytest.raises(ControlPlaneClientError) as failed:
        await asyncio.to_thread(client.servers)
    assert (failed.value.status, failed.value.code) == (0, "UNREACHABLE")
    assert not await asyncio.to_thread(client.healthy)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n<html>", b"HTTP/1.1 500 no\r\n\r\n[]", b"SSH-2.0\r\n"])
async def test_something_else_listening_is_said(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = ControlPlaneClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token")
        with pytest.raises(ControlPlaneClientError) as failed:
            await asyncio.to_thread(client.servers)
    assert failed.value.code in ("NOT_A_CONTROL_PLANE", "UNREACHABLE")


async def test_waits_end_without_the_event(tmp_path: Path) -> None:
    async with running(tmp_path, timings=Timings(command=30)) as plane, plane.agent() as agent:
        accepted = await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        await agent.expect("deploy")
        view = await plane.call(plane.client.deployment, accepted["deployment_id"], 0.05)
        assert view["status"] is None
        state = await plane.call(plane.client.command_state, accepted["request_id"], 0.05)
        assert state["state"] == "sent"
        page = await plane.call(plane.client.logs, accepted["request_id"], 0, 0.05)
        assert page == {"lines": [], "next": 0, "more": False, "done": False}
