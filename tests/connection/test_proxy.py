"""Proxies from the environment, against a real CONNECT proxy that also plays the name server."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from syntra.connection.settings import TlsSettings
from tests.connection.rig import Agent, ControlPlane, get

NAME = "control.test"


class ConnectProxy:
    """Tunnels CONNECT requests to `target` on loopback, whatever name they ask for. `status` refuses them instead."""

    def __init__(self) -> None:
        self.target = 0
        self.status = b"200 OK"
        self.requests: list[str] = []
        self.headers: list[bytes] = []
        self.port = 0

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head.split(b"\r\n")[0].decode())
            self.headers.append(head)
            writer.write(b"HTTP/1.1 " + self.status + b"\r\n\r\n")
            if not self.status.startswith(b"200"):
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pipe(reader, far_writer), name="proxy.up")
                    group.create_task(_pipe(far_reader, writer), name="proxy.down")
            finally:
                far_writer.close()
        finally:
            writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ConnectProxy]:
        server = await asyncio.start_server(self._tunnel, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "ws", "wss", "socks", "no", "all"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
async def test_tls_goes_through_the_proxy_and_is_verified_end_to_end(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = TlsSettings(ca_path=str(tmp_path / "ca.pem"))
    async with ConnectProxy().serving() as proxy, ControlPlane().serving(context) as plane:
        proxy.target = plane.port
        monkeypatch.setenv(variable, f"http://agent:s3cret@127.0.0.1:{proxy.port}")
        async with Agent(f"wss://{NAME}/agent/ws", tls=tls).running() as agent:
            await get(agent.ready)
            await plane.next("heartbeat")
    assert proxy.requests == [f"CONNECT {NAME}:443 HTTP/1.1"]
    assert base64.b64encode(b"agent:s3cret") in proxy.headers[0]
    assert b"syn_agt_" not in proxy.headers[0], "the token is for the control plane alone"


async def test_a_plain_endpoint_goes_through_the_proxy_and_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with ConnectProxy().serving() as proxy, ControlPlane().serving() as plane:
        proxy.target = plane.port
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with Agent(f"ws://{NAME}/agent/ws").running() as agent:
            await get(agent.ready)
    assert proxy.requests == [f"CONNECT {NAME}:80 HTTP/1.1"]
    assert "the token travels unencrypted" in caplog.text


async def test_loopback_is_dialled_directly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async with ConnectProxy().serving() as proxy, ControlPlane().serving() as plane:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with Agent(plane.endpoint()).running() as agent:
            await get(agent.ready)
    assert proxy.requests == []
    assert "unencrypted" not in caplog.text


async def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ConnectProxy().serving() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "example.test,.invalid")
        async with Agent("ws://control.invalid/agent/ws").running() as agent:
            assert "cannot reach the control plane: " in await get(agent.failures.sentences)
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (b"407 Proxy Authentication Required", "through the proxy: it answered HTTP 407"),
        (b"502 Bad Gateway", "through the proxy: it answered HTTP 502"),
        (b"nonsense", "through the proxy: it does not speak HTTP"),
    ],
)
async def test_a_proxy_that_refuses_is_named(status: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ConnectProxy().serving() as proxy:
        proxy.status = status
        monkeypatch.setenv("HTTPS_PROXY", f"http://agent:s3cret@127.0.0.1:{proxy.port}")
        async with Agent(f"wss://{NAME}/agent/ws").running() as agent:
            sentence = await get(agent.failures.sentences)
    assert words in sentence
    assert "s3cret" not in sentence


@pytest.mark.parametrize(
    "address", ["ftp://agent:s3cret@proxy.test", "http://s3cret@proxy.test", "http://agent:s3cret@proxy.test:port"]
)
async def test_an_address_of_a_proxy_that_is_wrong_is_said_without_its_password(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    async with Agent(f"wss://{NAME}/agent/ws").running() as agent:
        sentence = await get(agent.failures.sentences)
    assert "through the proxy" in sentence
    assert "s3cret" not in sentence


async def test_a_socks_proxy_is_not_supported_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://127.0.0.1:1080")
    async with Agent(f"wss://{NAME}/agent/ws").running() as agent:
        assert "SOCKS is not supported" in await get(agent.failures.sentences)
