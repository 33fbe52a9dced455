"""Certificates that were sent, as files: what the next run finds, and what it leaves alone."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.proxy.certificates import CertificateStore, ProxyCertificates
from syntra.model.command import InstallCertificate
from syntra.model.errors import RequestError
from syntra.model.ids import RequestId, ServiceId
from syntra.networking.certificates import check
from syntra.networking.errors import ProxyUnreachable
from syntra.networking.routes import RouteTable
from syntra.networking.traefik import ProxySettings, ServedCertificate, render
from syntra.runtime.errors import StepFailed
from syntra.utils.errors import AgentError
from tests.networking.own_certificates import self_signed
from tests.networking.samples import endpoint, group, route


def kept(store: CertificateStore, domain: str, days: float = 30) -> ServedCertificate:
    served = store.write(check(domain, *self_signed(domain, days=days), time.time()))
    store.serve(served)
    return served


def loaded(directory: Path, now: float | None = None) -> list[ServedCertificate]:
    store = CertificateStore(directory)
    store.load(time.time() if now is None else now)
    return list(store.served())


def test_what_was_written_is_found_again_wildcards_included(tmp_path: Path) -> None:
    directory = tmp_path / "certificates"
    store = CertificateStore(directory)
    written = [kept(store, domain) for domain in ("*.example.com", "shop.example.com", "a-b.example.com")]
    assert sorted(one.domain for one in written) == [one.domain for one in store.served()]
    assert loaded(directory) == list(store.served())
    assert directory.stat().st_mode & 0o777 == 0o700
    files = list(directory.iterdir())
    assert len(files) == 6 and {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_an_expired_one_is_not_served_by_the_next_run(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path)
    kept(store, "short.example.com", days=1)
    long = kept(store, "long.example.com", days=30)
    assert loaded(tmp_path, now=time.time() + 2 * 86_400) == [long]


def test_a_file_without_its_key_and_files_of_others_are_left_alone(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path)
    Path(kept(store, "halved.example.com").key_path).unlink()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "no certificate-00.crt").write_text("nothing")
    (tmp_path / "no certificate-00.key").write_text("nothing")
    (tmp_path / "folder-00.crt").mkdir()
    assert loaded(tmp_path) == []
    assert (tmp_path / "notes.txt").exists()


def test_the_newest_of_two_is_served_as_after_a_kill_between_writing_and_removing(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path)
    kept(store, "shop.example.com")
    time.sleep(0.02)
    newer = kept(store, "shop.example.com")
    assert loaded(tmp_path) == [newer]


def test_what_could_not_be_served_gives_way_to_what_was(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path)
    first = kept(store, "shop.example.com")
    second = store.write(check("shop.example.com", *self_signed("shop.example.com"), time.time()))
    assert store.serve(second) == first
    store.withdraw(second, first)
    store.remove(second)
    assert list(store.served()) == [first] == loaded(tmp_path)
    store.withdraw(first, None)
    assert list(store.served()) == []


def test_no_directory_is_no_certificates(tmp_path: Path) -> None:
    assert loaded(tmp_path / "absent") == []


# Installed


class Published:
    """Routes of one service, in a real file; the proxy behind it applies them, not yet, or is away."""

    def __init__(self, folder: Path) -> None:
        self.store = CertificateStore(folder / "certificates")
        self.settings = ProxySettings()
        self.routes = RouteTable((route("web", "shop.example.com", groups=(group(endpoint()),)),))
        self.file = folder / "syntra.yml"
        self.full = self.away = False
        self.applies = True

    async def table(self) -> RouteTable:
        return self.routes

    async def write(self) -> None:
        if self.full:
            raise StepFailed("ROUTE_FAILED", "cannot write syntra.yml: No space left on device")
        self.file.write_bytes(render(self.routes, self.settings, self.store.served()))

    async def wait_applied(self, secs: float) -> bool:
        if self.away:
            raise ProxyUnreachable("cannot ask the proxy: it is away")
        return self.applies

    def certificates(self, **settings: Any) -> ProxyCertificates:
        given = dataclasses.replace(self.settings, **settings)
        return ProxyCertificates(self.store, given, self, self, warnings=lambda: ("run `proxy up`",))

    def files(self) -> set[str]:
        return {path.suffix for path in (self.file.parent / "certificates").glob("*")}


def sent(domain: str = "shop.example.com", service: str = "web", **changes: Any) -> InstallCertificate:
    certificate, key = self_signed("shop.example.com", "elsewhere.example.com")
    given = {"domain": domain, "certificate": certificate, "private_key": key, **changes}
    return InstallCertificate(request_id=RequestId("r1"), service_id=ServiceId(service), **given)


async def test_an_installed_certificate_is_in_the_routes_and_the_answer_says_until_when(tmp_path: Path) -> None:
    published = Published(tmp_path)
    command = sent("SHOP.example.com")
    answer = await published.certificates().install(command)
    assert answer.pop("not_after")
    assert answer == {
        "domain": "shop.example.com",
        "service_id": "web",
        "applied": True,
        "notes": ["run `proxy up`"],
    }
    [served] = published.store.served()
    assert served.cert_path in published.file.read_text() and served.key_path in published.file.read_text()
    assert Path(served.cert_path).read_text() == command.certificate
    assert Path(served.key_path).read_text() == command.private_key
    assert command.private_key not in repr(command)
    # The next one takes its place, and its files.
    await published.certificates().install(sent())
    [renewed] = published.store.served()
    assert renewed != served and not Path(served.key_path).exists() and not Path(served.cert_path).exists()


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"domain": "elsewhere.example.com"}, "ROUTE_NOT_FOUND", "elsewhere.example.com is not routed to service web"),
        ({"service": "api"}, "ROUTE_NOT_FOUND", "shop.example.com is not routed to service api"),
        ({"domain": "-----BEGIN PRIVATE KEY-----"}, "INVALID_PAYLOAD", "domain: is not a domain name"),
        ({"domain": f"{'a.' * 110}example.com"}, "INVALID_PAYLOAD", "domain: 231 characters are more than 200"),
        ({"private_key": "PEM"}, "INVALID_CERTIFICATE", "private_key: is not a private key"),
    ],
)
async def test_what_cannot_be_served_is_refused_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], code: str, words: str
) -> None:
    published = Published(tmp_path)
    with pytest.raises(AgentError) as refused:
        await published.certificates().install(sent(**changes))
    assert refused.value.code == code and words in str(refused.value)
    assert "PRIVATE" not in str(refused.value)
    assert not published.file.exists() and published.files() == set()


async def test_without_tls_there_is_nothing_to_serve_it_on(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"set networking\.cert_resolver"):
        await Published(tmp_path).certificates(cert_resolver="").install(sent())


async def test_routes_that_cannot_be_written_leave_the_certificate_of_before(tmp_path: Path) -> None:
    published = Published(tmp_path)
    certificates = published.certificates()
    await certificates.install(sent())
    before = list(published.store.served())
    published.full = True
    with pytest.raises(StepFailed):
        await certificates.install(sent())
    assert list(published.store.served()) == before == loaded(tmp_path / "certificates")


async def test_a_proxy_that_is_away_reads_it_later_and_one_that_does_not_take_it_is_an_error(tmp_path: Path) -> None:
    published = Published(tmp_path)
    published.away = True
    answer = await published.certificates().install(sent())
    assert answer["applied"] is False
    published.away, published.applies = False, False
    with pytest.raises(RequestError, match="has not taken the certificate within 10 s"):
        await published.certificates().install(sent())
