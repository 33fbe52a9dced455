"""Certificates that were sent, as files: what the next run finds, and what it leaves alone."""

from __future__ import annotations

import time
from pathlib import Path

from syntra.agent.proxy.certificates import CertificateStore
from syntra.networking.certificates import check
from syntra.networking.traefik import ServedCertificate
from tests.networking.own_certificates import self_signed


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
