"""The transport over TLS: real certificates, good, wrong, refused and changing."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from websockets.asyncio.server import ServerConnection

from syntra.connection.session import State
from syntra.connection.settings import TlsSettings
from tests.connection.rig import PATIENCE, Agent, ControlPlane, get, wait


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(
    authority: trustme.CA, *, name: str = "127.0.0.1", clients: trustme.CA | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def trusting(folder: Path, authority: trustme.CA) -> TlsSettings:
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return TlsSettings(ca_path=str(path))


def with_certificate(folder: Path, settings: TlsSettings, authority: trustme.CA, name: str) -> TlsSettings:
    """Write a client certificate and key under fixed names, each replaced atomically."""
    leaf = authority.issue_cert(f"{name}@agents.test", common_name=name)
    for file, blob in (("agent.crt", leaf.cert_chain_pems[0]), ("agent.key", leaf.private_key_pem)):
        blob.write_to_path(folder / f"{file}.new")
        os.replace(folder / f"{file}.new", folder / file)
    return dataclasses.replace(settings, cert_path=str(folder / "agent.crt"), key_path=str(folder / "agent.key"))


def common_name(connection: ServerConnection) -> Any:
    certificate = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    subject = x509.load_der_x509_certificate(certificate).subject
    return subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value


@asynccontextmanager
async def secured(context: ssl.SSLContext, tls: TlsSettings) -> AsyncIterator[tuple[ControlPlane, Agent]]:
    """A control plane with these certificates, and an agent that dials it with those."""
    plane = ControlPlane()
    async with plane.serving(context), Agent(plane.endpoint("wss"), tls=tls).running() as agent:
        yield plane, agent


async def test_a_control_plane_of_a_known_authority_is_trusted(tmp_path: Path, authority: trustme.CA) -> None:
    async with secured(server_context(authority), trusting(tmp_path, authority)) as (plane, agent):
        await get(agent.ready)
        await plane.next("heartbeat")
    assert await get(plane.closed) == (1000, "agent is stopping")


async def test_an_unknown_authority_is_refused_loudly(tmp_path: Path, authority: trustme.CA) -> None:
    async with secured(server_context(trustme.CA()), trusting(tmp_path, authority)) as (plane, agent):
        sentence = await get(agent.failures.sentences)
        await get(agent.failures.sentences)
    assert sentence.startswith("cannot establish TLS with the control plane: its certificate is not accepted")
    assert "tls.ca_path" in sentence
    assert plane.requests == []


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    async with secured(server_context(authority, name="other.test"), trusting(tmp_path, authority)) as (plane, agent):
        sentence = await get(agent.failures.sentences)
    assert "not valid for '127.0.0.1'" in sentence
    assert "check the endpoint" in sentence
    assert plane.requests == []


async def test_an_expired_certificate_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    authority.issue_cert("127.0.0.1", not_before=past, not_after=past.replace(year=2021)).configure_cert(context)
    async with secured(context, trusting(tmp_path, authority)) as (_, agent):
        sentence = await get(agent.failures.sentences)
    assert "certificate has expired" in sentence
    assert "clock" in sentence


async def test_a_plain_server_behind_a_wss_endpoint_is_named_as_such(tmp_path: Path, authority: trustme.CA) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, Agent(endpoint, tls=trusting(tmp_path, authority)).running() as agent:
        assert "what answers there does not speak TLS" in await get(agent.failures.sentences)


class AlertingServer:
    """A TLS server that lets OpenSSL send its alert and hangs up politely, as servers do and asyncio's does not."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"wss://127.0.0.1:{self._listener.getsockname()[1]}/agent/ws"
        self.handshakes = 0

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            with self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
                try:
                    secured.do_handshake()
                    self.handshakes += 1
                except OSError:
                    # Below TLS: an end of stream, and then what the client had sent already, so that no reset follows.
                    socket.socket.shutdown(secured, socket.SHUT_WR)
                    while socket.socket.recv(secured, 65536):
                        pass

    @contextmanager
    def serving(self) -> Iterator[AlertingServer]:
        thread = threading.Thread(target=self._accept, name="tls-server")
        thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()


async def test_an_old_protocol_version_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    context = server_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    tls = trusting(tmp_path, authority)
    with AlertingServer(context).serving() as server:
        async with Agent(server.endpoint, tls=tls).running() as agent:
            assert "cannot establish TLS with the control plane" in await get(agent.failures.sentences)
    assert server.handshakes == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("certificate", ["none", "of another authority"])
async def test_a_client_certificate_that_is_not_accepted_is_said(
    tmp_path: Path, authority: trustme.CA, version: ssl.TLSVersion, certificate: str
) -> None:
    """With TLS 1.3 the refusal arrives after the client's handshake, on the first read."""
    context = server_context(authority, clients=authority)
    context.minimum_version = context.maximum_version = version
    tls = trusting(tmp_path, authority)
    if certificate != "none":
        tls = with_certificate(tmp_path, tls, trustme.CA(), "agt_1")
    with AlertingServer(context).serving() as server:
        async with Agent(server.endpoint, tls=tls).running() as agent:
            sentence = await get(agent.failures.sentences)
            assert agent.ready.empty()
    if (version, certificate) == (ssl.TLSVersion.TLSv1_2, "none"):
        assert "cannot establish TLS with the control plane" in sentence  # a plain handshake_failure, RFC 5246 §7.4.6
    else:
        assert "it did not accept this agent's client certificate" in sentence
        assert "check tls.cert_path" in sentence
    assert server.handshakes == 0


async def test_a_refusal_that_a_reset_overtakes_still_points_to_the_certificate(
    tmp_path: Path, authority: trustme.CA
) -> None:
    """asyncio's server drops a connection whose client certificate it refuses without sending the alert."""
    async with secured(server_context(authority, clients=authority), trusting(tmp_path, authority)) as (plane, agent):
        assert "check tls.cert_path" in await get(agent.failures.sentences)
        assert agent.ready.empty()
    assert plane.requests == []


async def test_unusable_files_are_named_and_tried_again_when_they_change(tmp_path: Path, authority: trustme.CA) -> None:
    tls = with_certificate(tmp_path, trusting(tmp_path, authority), authority, "agt_1")
    key = Path(str(tls.key_path))
    good = key.read_bytes()
    key.write_bytes(b"")
    async with (
        ControlPlane().serving(server_context(authority, clients=authority)) as plane,
        Agent(plane.endpoint("wss"), tls=tls).running() as agent,
    ):
        assert "tls.key_path" in await get(agent.failures.sentences)
        key.write_bytes(good)
        await get(agent.ready)


async def test_a_renewed_certificate_is_taken_up_by_a_graceful_redial(tmp_path: Path, authority: trustme.CA) -> None:
    tls = with_certificate(tmp_path, trusting(tmp_path, authority), authority, "first")
    async with (
        ControlPlane().serving(server_context(authority, clients=authority)) as plane,
        Agent(plane.endpoint("wss"), tls=tls).running() as agent,
    ):
        await get(agent.ready)
        assert common_name(await get(plane.connections)) == "first"
        with_certificate(tmp_path, tls, authority, "second")
        assert await get(agent.lost) == "the TLS files changed"
        assert await get(plane.closed) == (1000, "the TLS files changed")
        await get(agent.ready)
        assert common_name(await get(plane.connections)) == "second"
        assert plane.most_open == 1


class Notice(logging.Handler):
    """Sets an event of the loop at the first record, from whatever thread it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.seen = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.loop.call_soon_threadsafe(self.seen.set)


async def test_files_that_do_not_work_never_cost_the_connection(tmp_path: Path, authority: trustme.CA) -> None:
    tls = with_certificate(tmp_path, trusting(tmp_path, authority), authority, "first")
    notice = Notice()
    logging.getLogger("syntra.connection.tls").addHandler(notice)
    try:
        async with (
            ControlPlane().serving(server_context(authority, clients=authority)) as plane,
            Agent(plane.endpoint("wss"), tls=tls).running() as agent,
        ):
            await get(agent.ready)
            Path(str(tls.cert_path)).write_text("half a certificate")
            await wait(notice.seen)
            assert agent.transport.status.state is State.READY
            with_certificate(tmp_path, tls, authority, "second")
            await get(agent.ready)
    finally:
        logging.getLogger("syntra.connection.tls").removeHandler(notice)
