"""What may be served for a domain, and what is refused before anything is done with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization

from syntra.networking.certificates import InvalidCertificate, check, covers, expires_at
from tests.networking.own_certificates import self_signed

DOMAIN = "shop.example.com"
NOW = datetime.now(UTC).timestamp()


def refused(certificate: str, key: str, domain: str = DOMAIN, now: float = NOW) -> str:
    with pytest.raises(InvalidCertificate) as problem:
        check(domain, certificate, key, now)
    return str(problem.value)


def test_a_certificate_with_its_chain_and_key_is_taken() -> None:
    begins = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    certificate, key = self_signed(DOMAIN, begins=begins)
    authority, _ = self_signed("Authority")
    checked = check(DOMAIN, f"{certificate}\n{authority}", f"\n{key}\n", NOW)
    assert checked.chain.decode() == certificate + authority
    assert checked.private_key.decode() == key
    assert checked.not_after == (begins + timedelta(days=30)).timestamp()
    assert expires_at(checked.chain) == checked.not_after
    assert len(checked.digest) == 16


def test_neither_certificate_nor_key_shows_in_its_text() -> None:
    certificate, key = self_signed(DOMAIN)
    shown = repr(check(DOMAIN, certificate, key, NOW))
    assert "PRIVATE" not in shown and key.splitlines()[2] not in shown


def test_a_key_of_another_certificate_is_refused() -> None:
    certificate, _ = self_signed(DOMAIN)
    _, other = self_signed(DOMAIN)
    assert refused(certificate, other) == ("private_key: does not belong to the first certificate; send the leaf first")


def test_a_chain_in_the_wrong_order_is_refused() -> None:
    certificate, key = self_signed(DOMAIN)
    authority, _ = self_signed("Authority")
    assert "send the leaf first" in refused(authority + certificate, key)


@pytest.mark.parametrize("common_name_only", [False, True])
def test_a_certificate_for_another_name_is_refused(common_name_only: bool) -> None:
    """A common name alone is no name: browsers do not look at it."""
    certificate, key = self_signed(DOMAIN if common_name_only else "other.example", common_name_only=common_name_only)
    known = "no name at all" if common_name_only else "other.example"
    assert refused(certificate, key) == f"certificate: is for {known}, not for {DOMAIN}"


def test_a_certificate_outside_its_time_is_refused() -> None:
    begins = datetime.now(UTC) - timedelta(days=40)
    certificate, key = self_signed(DOMAIN, begins=begins)
    assert "certificate: expired on " in refused(certificate, key)
    check(DOMAIN, certificate, key, begins.timestamp() + 1)
    assert "is not valid before" in refused(certificate, key, now=begins.timestamp() - 10)


@pytest.mark.parametrize(
    "broken", ["", "PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "\ud800"]
)
def test_what_is_not_a_certificate_or_a_key_is_refused_without_quoting_it(broken: str) -> None:
    certificate, key = self_signed(DOMAIN)
    assert refused(broken, key).startswith("certificate: is not PEM")
    assert refused(certificate, broken) == "private_key: is not a private key in PEM without a passphrase"
    # Mixed up, the key is in the certificate's place.
    assert key.splitlines()[2] not in refused(key, certificate)


def test_a_key_with_a_passphrase_is_refused() -> None:
    certificate, key = self_signed(DOMAIN)
    loaded = serialization.load_pem_private_key(key.encode(), None)
    locked = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    assert "without a passphrase" in refused(certificate, locked.decode())


@pytest.mark.parametrize(
    ("name", "domain", "does"),
    [
        ("shop.example.com", "shop.example.com", True),
        ("SHOP.example.com", "shop.example.com", True),
        ("*.example.com", "shop.example.com", True),
        ("*.example.com", "a.shop.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.example.com", "*.example.com", True),
        ("example.com", "*.example.com", False),
        ("*.com", "*.example.com", False),
        ("shop.example.com", "shop.example.org", False),
    ],
)
def test_a_wildcard_stands_for_exactly_one_label(name: str, domain: str, does: bool) -> None:
    assert covers(name, domain) is does


def test_a_file_that_is_no_certificate_has_no_end() -> None:
    assert expires_at(b"nothing") is None
