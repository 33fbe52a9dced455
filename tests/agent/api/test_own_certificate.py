"""Enrolment: the agent's link against the reference control plane over real TLS, and a fake engine."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidMessage

from syntra.agent.alerts.ledger import AlertLedger
from syntra.agent.api import own_certificate
from syntra.agent.api.control_link import ControlLink
from syntra.agent.api.dialect_door import DialectDoor
from syntra.agent.api.queries import Identity
from syntra.agent.config.settings import ControlPlaneSettings as ControlPlaneSection
from syntra.agent.config.settings import Settings, TlsSettings
from syntra.agent.health.results import HealthResults
from syntra.agent.journal.dialects import RememberedDialects
from syntra.agent.messages import Reports
from syntra.connection import retry
from syntra.connection.certificate_files import CertificateFiles, facts_of, new_request, pair_of
from syntra.connection.enrolment import Slot
from syntra.controlplane import certificates, listings
from syntra.controlplane.authority import Authority
from syntra.controlplane.certificates import CertificateRecord
from syntra.controlplane.server import ControlPlane
from syntra.controlplane.settings import ControlPlaneSettings, Limits
from syntra.controlplane.store import Store
from syntra.controlplane.tokens import token_hash
from syntra.model.fields import Json
from syntra.utils.structured_log import LogHandle
from tests.agent.agent_rig import Agent, running
from tests.agent.fake_engine import FakeEngine
from tests.controlplane.harness import hello

PATIENCE = 20.0
TOKEN = "syn_agt_5ecret5ecret5ecret"
OTHER_TOKEN = "syn_agt_0ther0ther0ther0ther"
CREATED = "2026-01-01T00:00:00.000Z"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dial again soon: the waits have tests of their own."""
    monkeypatch.setattr(retry, "LOST_READY_SPREAD_SECS", 0.1)
    monkeypatch.setattr(retry, "SLOW_FIRST_SECS", 0.2)


class Place:
    """A folder with a server certificate, and a control plane in it that can be opened again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        leaf = authority.issue_cert("127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(self.certificate)
        leaf.private_key_pem.write_to_path(self.key)
        self.port = 0

    @asynccontextmanager
    async def plane(self, **changes: Any) -> AsyncIterator[ControlPlane]:
        settings = ControlPlaneSettings(
            data_dir=self.folder / "plane",
            port=self.port,
            tls_cert=self.certificate,
            tls_key=self.key,
            heartbeat_interval_seconds=1,
            agent_log_level="as it is",
            **{"enrol": True, **changes},
        )
        async with ControlPlane(settings) as plane:
            self.port = plane.port
            for server_id, token in (("srv_1", TOKEN), ("srv_2", OTHER_TOKEN)):
                if await plane.store.run(Store.server_of_token, token_hash(token)) is None:
                    await plane.store.run(Store.add_token, token_hash(token), server_id, server_id, CREATED)
            yield plane

    @property
    def endpoint(self) -> str:
        return f"wss://127.0.0.1:{self.port}/agent/ws"

    @property
    def files(self) -> CertificateFiles:
        return CertificateFiles(self.folder / "agent" / "certificates", endpoint=self.endpoint, server_id="srv_1")

    def authority(self) -> Authority:
        return Authority.open_or_create(self.folder / "plane" / "authority.pem", datetime.now(UTC))

    @asynccontextmanager
    async def link(
        self,
        agent: Agent,
        adapter: FakeEngine,
        tls: TlsSettings | None = None,
        alerts: Callable[[AlertLedger], None] = lambda ledger: None,
    ) -> AsyncIterator[ControlLink]:
        link = ControlLink(
            Settings(
                data_dir=self.folder / "agent",
                control_plane=ControlPlaneSection(endpoint=self.endpoint, token=TOKEN),
                tls=tls or TlsSettings(ca_path=self.ca),
            ),
            Identity(agent_id="agt_1", server_id="srv_1", data_dir=self.folder, started_at=0.0),
            runtime=adapter,
            views=agent.views,
            sampler=agent.sampler,
            outbox=agent.journal.outbox,
            door=DialectDoor("auto", self.endpoint, RememberedDialects(agent.journal._database)),
            log_handle=cast(LogHandle, None),
            health_results=HealthResults().drain,
        )
        link.route_to(agent.router)
        async with asyncio.TaskGroup() as group:
            ledger = AlertLedger(agent.journal, Reports("srv_1"))
            alerts(ledger)
            group.create_task(link.run(ledger), name="link")
            yield link
            await link.stop()

    def request(self, method: str, path: str, operator: str) -> dict[str, Any]:
        """A request of the operator's API."""
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=context)
        with closing(connection):
            connection.request(method, path, headers={"Authorization": f"Bearer {operator}"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer

    async def session(self, token: str, server_id: str, pair: Path | None, **changes: Any) -> tuple[int, str] | str:
        """Say hello with a token and perhaps a certificate; "hello_ack", or how the control plane closed."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if pair is not None:
            context.load_cert_chain(pair)
        async with asyncio.timeout(PATIENCE):
            headers = {"Authorization": f"Bearer {token}"}
            async with connect(self.endpoint, additional_headers=headers, ssl=context, proxy=None) as socket:
                try:
                    frame = {"id": "1", "type": "agent_hello", "timestamp": "", "payload": hello(server_id, **changes)}
                    await socket.send(json.dumps(frame))
                    return str(json.loads(await socket.recv())["type"])
                except ConnectionClosed as exc:
                    assert exc.rcvd is not None
                    return exc.rcvd.code, exc.rcvd.reason


@asynccontextmanager
async def enrolled(folder: Path, **changes: Any) -> AsyncIterator[tuple[Place, ControlPlane, Callable[..., Any]]]:
    """A control plane, and a link as often as it is called."""
    place, adapter = Place(folder), FakeEngine()
    (folder / "agent").mkdir(mode=0o700)
    async with place.plane(**changes) as plane, running(folder / "agent", adapter) as agent:
        yield place, plane, lambda **more: place.link(agent, adapter, **more)


@asynccontextmanager
async def scripted(folder: Path, answer: dict[str, Any] | None) -> AsyncIterator[ControlLink]:
    """A link to a control plane that gives this answer to a request for a certificate, or none."""
    place, adapter = Place(folder), FakeEngine()
    (folder / "agent").mkdir(mode=0o700)

    async def talk(socket: ServerConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "agent_hello":
                reply = ("hello_ack", {"accepted": True, "config": {"features": ["cert_enrolment"]}})
            elif message["type"] == "cert_request" and answer is not None:
                reply = ("cert_response", {"request_id": message["payload"]["request_id"], **answer})
            else:
                continue
            await socket.send(json.dumps({"id": "1", "type": reply[0], "timestamp": "", "payload": reply[1]}))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place.certificate, place.key)
    async with serve(talk, "127.0.0.1", 0, ssl=context) as server, running(folder / "agent", adapter) as agent:
        place.port = next(iter(server.sockets)).getsockname()[1]
        async with place.link(agent, adapter) as link:
            yield link


async def until(link: ControlLink, condition: Callable[[dict[str, Json]], bool]) -> dict[str, Json]:
    """The certificate as `status` shows it, once the condition holds."""
    shown: object = None
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                shown = link.status()["certificate"]
                if isinstance(shown, dict) and condition(shown):
                    return shown
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {shown} {link.status()}") from None


def accepted(shown: dict[str, Json]) -> bool:
    return shown["state"] == "accepted" and shown["in_use"] is True


async def used(plane: ControlPlane, serial: object) -> list[CertificateRecord]:
    """The records of srv_1, once this certificate is in use."""
    async with asyncio.timeout(PATIENCE):
        while True:
            records = await plane.store.run(certificates.of_server, "srv_1")
            if any(record.serial == serial and record.used_at for record in records):
                return records
            await asyncio.sleep(0.02)


async def test_an_agent_gets_a_certificate_and_uses_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with enrolled(tmp_path) as (place, plane, link):
        async with link() as first:
            shown = await until(first, accepted)
            assert (shown["source"], shown["subject"]) == ("control_plane", "CN=srv_1")
            assert 89.9 < cast(float, shown["days_left"]) <= 90
            assert [record.serial for record in await used(plane, shown["serial"])] == [shown["serial"]]
        pair = place.files.path(Slot.CURRENT)
        assert stat.S_IMODE(pair.stat().st_mode) == 0o600
        assert stat.S_IMODE(pair.parent.stat().st_mode) == 0o700
        assert [file.name for file in pair.parent.iterdir()] == ["current.pem"]
        async with link() as again:
            assert (await until(again, accepted))["serial"] == shown["serial"]
            status = json.dumps(again.status())
    secret = pair.read_text().split("-----")[2].split()
    others = [file for file in tmp_path.rglob("*") if file.is_file() and file != pair]
    assert (tmp_path / "plane" / "controlplane.db") in others
    for line in secret:
        assert line not in caplog.text
        assert line not in status
        assert [file for file in others if line.encode() in file.read_bytes()] == []


async def test_a_certificate_is_renewed_while_connected(tmp_path: Path) -> None:
    async with enrolled(tmp_path, certificate_secs=9) as (place, plane, link), link() as one:
        first = (await until(one, accepted))["serial"]
        second = (await until(one, lambda shown: accepted(shown) and shown["serial"] != first))["serial"]
        assert [record.serial for record in await used(plane, second)] == [second]
        assert facts_of(place.files.path(Slot.CURRENT).read_bytes()).serial == second


async def test_a_certificate_that_is_not_accepted_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    async with enrolled(tmp_path) as (place, _, link):
        async with link() as one:
            serial = (await until(one, accepted))["serial"]
        stranger = Authority.open_or_create(tmp_path / "stranger.pem", datetime.now(UTC))
        request = new_request("srv_1")
        issued = stranger.issue(request.request_pem, "srv_1", now=datetime.now(UTC), lifetime=timedelta(days=90))
        place.files.write_candidate(pair_of(request, issued.pem, 0.0))
        async with link() as one:
            shown = await until(one, lambda shown: shown["state"] == "failed")
            assert (shown["serial"], shown["in_use"]) == (serial, True)
            assert "did not accept" in str(shown["problem"])
        assert place.files.load().keys() == {Slot.CURRENT}
        assert facts_of(place.files.path(Slot.CURRENT).read_bytes()).serial == serial


async def test_a_candidate_of_an_earlier_run_is_tried_first(tmp_path: Path) -> None:
    async with enrolled(tmp_path) as (place, plane, link):
        async with link() as one:
            serial = (await until(one, accepted))["serial"]
        # As after a kill right after the certificate was written.
        request, now = new_request("srv_1"), datetime.now(UTC)
        issued = place.authority().issue(request.request_pem, "srv_1", now=now, lifetime=timedelta(days=90))
        await plane.store.run(certificates.add, "srv_1", issued, "2099-01-01T00:00:00.000Z", CREATED)
        place.files.write_candidate(pair_of(request, issued.pem, 0.0))
        async with link() as one:
            assert (await until(one, accepted))["serial"] == issued.serial != serial
            assert [record.serial for record in await used(plane, issued.serial)] == [issued.serial]


async def test_a_session_is_bound_to_the_certificate_of_its_server(tmp_path: Path) -> None:
    async with enrolled(tmp_path) as (place, plane, link):
        assert await place.session(TOKEN, "srv_1", None) == "hello_ack"
        async with link() as one:
            await used(plane, (await until(one, accepted))["serial"])
        pair = place.files.path(Slot.CURRENT)
        assert await place.session(TOKEN, "srv_1", pair) == "hello_ack"
        assert await place.session(OTHER_TOKEN, "srv_2", None) == "hello_ack"
        assert await place.session(OTHER_TOKEN, "srv_2", pair) == (
            4001,
            "the client certificate belongs to another server",
        )
        assert await place.session(TOKEN, "srv_1", None) == (
            4001,
            "this server has a client certificate, so its token alone is not enough",
        )


async def test_a_refused_request_leaves_the_agent_connected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with scripted(tmp_path, {"success": False, "error": {"code": "CSR_REFUSED", "message": "not today"}}) as one:
        shown = await until(one, lambda shown: shown["state"] == "failed")
        assert (shown["problem"], shown["in_use"]) == ("the control plane refused: not today", False)
        assert one.is_connected
    assert "no client certificate" in caplog.text
    assert not (tmp_path / "agent" / "certificates").exists()


async def test_a_certificate_for_another_key_is_refused(tmp_path: Path) -> None:
    stranger = Authority.open_or_create(tmp_path / "stranger.pem", datetime.now(UTC))
    issued = stranger.issue(
        new_request("srv_1").request_pem, "srv_1", now=datetime.now(UTC), lifetime=timedelta(days=90)
    )
    async with scripted(tmp_path, {"success": True, "certificate": issued.pem}) as one:
        shown = await until(one, lambda shown: shown["state"] == "failed")
        assert "not for the key of this request" in str(shown["problem"])
        assert one.is_connected
    assert not (tmp_path / "agent" / "certificates").exists()


async def test_a_control_plane_that_does_not_answer_is_asked_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_certificate, "ANSWER_SECS", 0.2)
    async with scripted(tmp_path, None) as one:
        shown = await until(one, lambda shown: shown["state"] == "failed")
        assert shown["problem"] == "the control plane did not answer within 0.2 s"
        assert one.is_connected


async def test_without_the_extension_nothing_is_asked(tmp_path: Path) -> None:
    async with enrolled(tmp_path, enrol=False) as (_, plane, link), link() as one:
        async with asyncio.timeout(PATIENCE):
            while not one.is_connected:
                await asyncio.sleep(0.02)
        assert one.features == frozenset()
        assert one.status()["certificate"] is None
        server = await plane.store.run(Store.server, "srv_1")
        assert server is not None and server.hello is not None
        assert "cert_enrolment" in cast(list[str], server.hello["capabilities"])
        assert server.ignored_messages == 0


async def test_a_request_that_the_control_plane_cannot_sign_is_answered(tmp_path: Path) -> None:
    async with enrolled(tmp_path) as (place, plane, _):
        context = ssl.create_default_context(cafile=str(place.ca))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            asyncio.timeout(PATIENCE),
            connect(place.endpoint, additional_headers=headers, ssl=context, proxy=None) as socket,
        ):
            said = hello("srv_1", capabilities=["cert_enrolment"])
            await socket.send(json.dumps({"id": "1", "type": "agent_hello", "timestamp": "", "payload": said}))
            assert json.loads(await socket.recv())["payload"]["config"]["features"] == ["cert_enrolment"]
            asked = {"request_id": "cert-1", "csr": "no request"}
            await socket.send(json.dumps({"id": "2", "type": "cert_request", "timestamp": "", "payload": asked}))
            answer = json.loads(await socket.recv())
            assert (answer["type"], answer["payload"]["request_id"]) == ("cert_response", "cert-1")
            assert answer["payload"]["error"]["code"] == "CSR_REFUSED"
        assert await plane.store.run(certificates.of_server, "srv_1") == []


async def test_an_expired_certificate_is_refused_and_the_agent_enrols_again(tmp_path: Path) -> None:
    async with enrolled(tmp_path) as (place, plane, link):
        request, then = new_request("srv_1"), datetime.now(UTC) - timedelta(days=91)
        issued = place.authority().issue(request.request_pem, "srv_1", now=then, lifetime=timedelta(days=90))
        await plane.store.run(certificates.add, "srv_1", issued, "2026-01-01T00:00:00.000Z", CREATED)
        place.files.write_candidate(pair_of(request, issued.pem, 0.0))
        place.files.accept_candidate()
        # The handshake of TLS 1.3 ends before the refusal, so the alert or a reset is what the client sees.
        with pytest.raises((OSError, InvalidMessage)):
            await place.session(TOKEN, "srv_1", place.files.path(Slot.CURRENT))
        async with link() as one:
            assert (await until(one, accepted))["serial"] != issued.serial


async def test_a_revoked_certificate_ends_the_session_and_the_agent_enrols_again(tmp_path: Path) -> None:
    async with enrolled(tmp_path) as (place, plane, link), link() as one:
        serial = (await until(one, accepted))["serial"]
        await used(plane, serial)
        old = tmp_path / "old.pem"
        old.write_bytes(place.files.path(Slot.CURRENT).read_bytes())
        operator = (tmp_path / "plane" / "operator.token").read_text().strip()
        listed = await asyncio.to_thread(place.request, "GET", "/api/v1/servers/srv_1/certificates", operator)
        assert [record["serial"] for record in listed["certificates"]] == [serial]
        revoked = await asyncio.to_thread(place.request, "DELETE", "/api/v1/servers/srv_1/certificates", operator)
        assert revoked == {"revoked": 1}
        await until(one, lambda shown: accepted(shown) and shown["serial"] != serial)
        assert await place.session(TOKEN, "srv_1", old) == (4001, "the client certificate was revoked")


async def test_a_certificate_put_there_by_hand_is_used_and_not_replaced(tmp_path: Path) -> None:
    theirs = trustme.CA()
    leaf = theirs.issue_cert("agent@hand.test")
    client_ca, mine, key = tmp_path / "clients.pem", tmp_path / "mine.pem", tmp_path / "mine.key"
    theirs.cert_pem.write_to_path(client_ca)
    leaf.cert_chain_pems[0].write_to_path(mine)
    leaf.private_key_pem.write_to_path(key)
    before = (mine.read_bytes(), key.read_bytes())
    async with enrolled(tmp_path, client_ca=client_ca) as (place, plane, link):
        settings = TlsSettings(ca_path=place.ca, cert_path=mine, key_path=key)
        async with link(tls=settings) as one:
            shown = await until(one, lambda shown: one.is_connected)
            assert shown["source"] == "file"
            assert shown["serial"] == facts_of(before[0]).serial
            assert "cert_enrolment" not in one.features
        assert await plane.store.run(certificates.of_server, "srv_1") == []
    assert (mine.read_bytes(), key.read_bytes()) == before
    assert not (tmp_path / "agent" / "certificates").exists()


async def test_a_certificate_that_ends_soon_raises_an_alert(tmp_path: Path) -> None:
    theirs = Authority.open_or_create(tmp_path / "clients.pem", datetime.now(UTC) - timedelta(days=100))
    request, then = new_request("srv_1"), datetime.now(UTC) - timedelta(days=80)
    issued = theirs.issue(request.request_pem, "by hand", now=then, lifetime=timedelta(days=90))
    client_ca, mine = tmp_path / "clients.crt", tmp_path / "mine.pem"
    client_ca.write_text(theirs.root_pem)
    mine.write_bytes(pair_of(request, issued.pem, 0.0))
    ledgers: list[AlertLedger] = []
    async with enrolled(tmp_path, client_ca=client_ca) as (place, plane, link):
        settings = TlsSettings(ca_path=place.ca, cert_path=mine, key_path=mine)
        async with link(tls=settings, alerts=ledgers.append) as one:
            shown = await until(one, lambda shown: one.is_connected and bool(ledgers[0].opened))
            assert shown["subject"] == "CN=by hand"
            assert [alert["type"] for alert in ledgers[0].shown()] == ["resource_critical"]
            async with asyncio.timeout(PATIENCE):
                while b"the client certificate of this server expires soon" not in await plane.store.run(
                    listings.alerts, "srv_1", 0, Limits()
                ):
                    await asyncio.sleep(0.05)
