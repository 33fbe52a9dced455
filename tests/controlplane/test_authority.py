"""The certificate authority: what it signs, and what it refuses."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from syntra.controlplane.authority import MAX_REQUEST_CHARS, Authority, RequestRefused
from syntra.utils.errors import AgentError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DAYS = timedelta(days=90)


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "srv_other") -> str:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("evil.test")]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_the_root_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    first = Authority.open_or_create(path, NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Authority.open_or_create(path, NOW + DAYS).root_pem == first.root_pem
    assert "PRIVATE KEY" not in first.root_pem + repr(first)
    root = x509.load_pem_x509_certificate(first.root_pem.encode())
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert Authority.open_or_create(tmp_path / "other.pem", NOW).name != first.name


def test_only_the_key_is_taken_from_a_request(tmp_path: Path) -> None:
    authority, key = Authority.open_or_create(tmp_path / "authority.pem", NOW), ec.generate_private_key(ec.SECP384R1())
    issued = authority.issue(request(key), "srv_1", now=NOW, lifetime=DAYS)
    leaf = x509.load_pem_x509_certificate(issued.pem.encode())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.root_pem.encode()))
    assert leaf.subject.rfc4514_string() == "CN=srv_1"
    assert leaf.public_key() == key.public_key()
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert leaf.not_valid_after_utc == issued.not_after == NOW + DAYS
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert (issued.fingerprint, issued.serial) == (leaf.fingerprint(hashes.SHA256()), f"{leaf.serial_number:x}")


def test_other_keys_broken_requests_and_foreign_signatures_are_refused(tmp_path: Path) -> None:
    authority = Authority.open_or_create(tmp_path / "authority.pem", NOW)
    good = request(ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER))
    place = der.index(b"srv_other")
    der[place : place + 9] = b"srv_wrong"
    changed = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    refused = {
        request(rsa.generate_private_key(65537, 2048)): "P-256",
        request(ec.generate_private_key(ec.SECP521R1())): "P-256",
        changed: "signature",
        "": "not a certificate signing request",
        good[:-60]: "not a certificate signing request",
        authority.root_pem: "not a certificate signing request",
        "x" * (MAX_REQUEST_CHARS + 1): "longer",
    }
    for text, reason in refused.items():
        with pytest.raises(RequestRefused, match=reason):
            authority.issue(text, "srv_1", now=NOW, lifetime=DAYS)


def test_a_file_that_is_open_to_others_or_broken_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    Authority.open_or_create(path, NOW)
    path.chmod(0o640)
    with pytest.raises(AgentError, match="others can read it"):
        Authority.open_or_create(path, NOW)
    path.chmod(0o600)
    stranger = Authority.open_or_create(tmp_path / "other.pem", NOW)
    key, _, _ = path.read_text().partition("-----BEGIN CERTIFICATE")
    for text in ("", key, key + stranger.root_pem):
        path.write_text(text)
        with pytest.raises(AgentError, match="it is broken"):
            Authority.open_or_create(path, NOW)
