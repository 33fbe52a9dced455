"""Starting, stopping, restarting, listening: the control plane as a whole."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
from collections.abc import Awaitable
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from syntra.controlplane.server import ControlPlane, serve
from syntra.controlplane.settings import ControlPlaneSettings, Limits, Timings
from syntra.utils.errors import AgentError
from tests.controlplane.client import ControlPlaneClient, ControlPlaneClientError
from tests.controlplane.harness import PATIENCE, deploy_payload, hello, running


async def test_agents_are_closed_with_1001_when_it_stops(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        async with running(tmp_path) as plane:
            opened = plane.agent()
            agent = await opened.__aenter__()
            silent = plane.socket(await plane.token())
            other = await silent.__aenter__()
        assert (await agent.closed())[0] == 1001
        assert (await other.closed())[0] == 1001
        await opened.__aexit__(None, None, None)
        await silent.__aexit__(None, None, None)


async def test_an_agent_that_does_not_answer_the_close_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        async with running(tmp_path, timings=Timings(close=0.1)) as plane:
            reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(
                b"GET /agent/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.close()


async def test_an_operator_who_waits_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        async with running(tmp_path) as plane, plane.agent() as agent:
            call = asyncio.to_thread(plane.client.command, "srv_1", "stop", {"service_id": "s"}, 60)
            waiting = group.create_task(_failure(call), name="operator")
            await agent.expect("stop")
        assert (await waiting).code == "UNREACHABLE"


async def _failure(call: Awaitable[object]) -> ControlPlaneClientError:
    with pytest.raises(ControlPlaneClientError) as failed:
        await call
    return failed.value


async def test_serve_ends_cleanly_when_cancelled_and_releases_the_port(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as other:
        port = other.port
    settings = ControlPlaneSettings(data_dir=tmp_path / "b", port=port)
    client = None
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        task = group.create_task(serve(settings), name="serve")
        while client is None or not await asyncio.to_thread(client.healthy):
            await asyncio.sleep(0)
            if settings.operator_token_path.exists():
                client = ControlPlaneClient(f"http://127.0.0.1:{port}", settings.operator_token_path.read_text())
        task.cancel()
    assert task.cancelled()
    async with ControlPlane(settings):
        pass


async def test_an_error_inside_comes_out_as_itself(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with running(tmp_path):
            raise KeyError("body")


async def test_a_taken_port_is_said(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as plane:
        with pytest.raises(AgentError, match=r"cannot listen on 127\.0\.0\.1 port"):
            async with ControlPlane(ControlPlaneSettings(data_dir=tmp_path / "b", port=plane.port)):
                pass


async def test_a_second_control_plane_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        with pytest.raises(AgentError, match="stop the other control plane"):
            async with running(tmp_path):
                pass


async def test_a_restart_keeps_tokens_servers_deployments_and_what_is_queued(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        token = await plane.token()
        async with plane.agent(token=token) as agent:
            sent = await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload(service_id="svc_0"))
            await agent.expect("deploy")
            report = {"deployment_id": sent["deployment_id"], "service_id": "svc_0", "status": "running"}
            await agent.send("deploy_status", report)
            await agent.settled()
        while (await plane.call(plane.client.server, "srv_1"))["connected"]:
            pass
        queued = await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        assert queued["state"] == "queued"
        operator_token = plane.operator_token

    async with running(tmp_path) as plane:
        assert plane.operator_token == operator_token
        assert (await plane.call(plane.client.command_state, queued["request_id"]))["state"] == "queued"
        assert (await plane.call(plane.client.command_state, sent["request_id"]))["state"] == "timed_out"
        assert (await plane.call(plane.client.deployment, sent["deployment_id"]))["status"] == "running"
        assert (await plane.call(plane.client.server, "srv_1"))["hello"]["network"]["hostname"] == "web-1"
        async with plane.agent(token=token) as agent:
            (pending,) = agent.ack["pending_deployments"]
            assert pending["deployment_id"] == queued["deployment_id"]
            assert pending["registry_auth"]["password"] == "registry-password"
            await agent.send("command_response", {"request_id": sent["request_id"], "success": True})
            await agent.settled()
        assert (await plane.call(plane.client.command_state, sent["request_id"]))["state"] == "answered"

    async with running(tmp_path) as plane, plane.agent(token=token) as agent:
        assert agent.ack["pending_deployments"] == []


async def test_files_are_the_owners_only_and_hold_no_token_and_no_delivered_secret(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with running(data_dir) as plane:
        token = await plane.token()
        await plane.call(plane.client.command, "srv_1", "deploy", deploy_payload())
        for path in data_dir.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
            # Also while it waits, in the write-ahead log too: a queued deploy is sealed.
            assert b"registry-password" not in path.read_bytes(), path.name
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        async with plane.agent(token=token) as agent:
            assert len(agent.ack["pending_deployments"]) == 1
    database = (data_dir / "controlplane.db").read_bytes()
    assert token.encode() not in database
    assert b"registry-password" not in database
    assert plane.operator_token.encode() not in database
    assert sorted(path.name for path in data_dir.iterdir()) == [
        "controlplane.db",
        "controlplane.key",
        "operator.token",
    ]


async def test_beyond_the_connection_limit_a_client_is_told_to_come_back(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(connections=1)) as plane:
        token = await plane.token()
        async with plane.agent(token=token):
            with pytest.raises(ControlPlaneClientError) as refused:
                await plane.call(plane.client.servers)
    assert (refused.value.status, refused.value.code) == (503, "TOO_MANY_CONNECTIONS")


async def test_over_tls_agents_need_the_client_certificate_and_operators_do_not(tmp_path: Path) -> None:
    ca, agents_ca = trustme.CA(), trustme.CA()
    server_cert, agent_cert = ca.issue_cert("127.0.0.1"), agents_ca.issue_cert("agent.example")
    server_cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server_cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    agents_ca.cert_pem.write_to_path(tmp_path / "agents.pem")
    plain, mutual = ssl.create_default_context(), ssl.create_default_context()
    ca.configure_trust(plain)
    ca.configure_trust(mutual)
    agent_cert.configure_cert(mutual)
    async with running(
        tmp_path / "data",
        tls_cert=tmp_path / "cert.pem",
        tls_key=tmp_path / "key.pem",
        client_ca=tmp_path / "agents.pem",
    ) as plane:
        url = f"127.0.0.1:{plane.port}"
        client = ControlPlaneClient(f"https://{url}", plane.operator_token, tls=plain)
        token = (await plane.call(client.create_token, "srv_1"))["token"]

        headers = {"Authorization": f"Bearer {token}"}
        address = f"wss://{url}/agent/ws"
        async with connect(address, ssl=plain, additional_headers=headers, proxy=None) as socket:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 4001
        async with connect(address, ssl=mutual, additional_headers=headers, proxy=None) as socket:
            await socket.send(_frame("agent_hello", hello()))
            assert "hello_ack" in str(await socket.recv())


def _frame(type: str, payload: dict[str, object]) -> str:
    return json.dumps({"id": "1", "type": type, "timestamp": "", "payload": payload})


def test_broken_tls_files_are_said(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("not a certificate")
    settings = ControlPlaneSettings(
        data_dir=tmp_path, port=0, tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "cert.pem"
    )
    with pytest.raises(AgentError, match="cannot load the TLS files"):
        asyncio.run(serve(settings))
