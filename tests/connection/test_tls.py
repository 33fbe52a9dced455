"""Contexts from real certificate files, good, bad and changing."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from syntra.connection.errors import TlsFileError
from syntra.connection.settings import TlsSettings
from syntra.connection.tls import TlsFiles


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write_pair(folder: Path, authority: trustme.CA, name: str = "client") -> tuple[str, str]:
    leaf = authority.issue_cert("agent@example.test", common_name="agt_1")
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return str(cert), str(key)


def test_a_context_verifies_certificate_and_name_and_refuses_old_protocols(
    tmp_path: Path, authority: trustme.CA
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    context = TlsFiles(TlsSettings(ca_path=str(ca))).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname is True
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    ours = ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())
    assert ours in context.get_ca_certs(binary_form=True)


def test_every_context_is_a_new_one(tmp_path: Path, authority: trustme.CA) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    files = TlsFiles(TlsSettings(ca_path=str(ca)))
    assert files.context() is not files.context()


def test_own_authorities_add_to_the_platform_s(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, own = tmp_path / "platform.pem", tmp_path / "own.pem"
    trustme.CA().cert_pem.write_to_path(platform)
    authority.cert_pem.write_to_path(own)
    monkeypatch.setenv("SSL_CERT_FILE", str(platform))
    assert len(TlsFiles(TlsSettings(ca_path=str(own))).context().get_ca_certs()) >= 2


def test_a_machine_without_roots_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(TlsFileError, match=r"no trusted certificates.*tls\.ca_path"):
        TlsFiles(TlsSettings(), bundles=()).context()


def test_the_distribution_s_bundle_is_found_where_openssl_does_not_look(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    bundles = (str(tmp_path / "absent.pem"), str(bundle))
    assert len(TlsFiles(TlsSettings(), bundles=bundles).context().get_ca_certs()) == 1


def test_a_client_certificate_with_its_key_is_loaded(tmp_path: Path, authority: trustme.CA) -> None:
    cert, key = write_pair(tmp_path, authority)
    TlsFiles(TlsSettings(cert_path=cert, key_path=key, ca_path=cert)).context()
    both = tmp_path / "both.pem"
    both.write_bytes(Path(cert).read_bytes() + Path(key).read_bytes())
    TlsFiles(TlsSettings(cert_path=str(both), ca_path=cert)).context()


def test_every_unusable_file_is_named_by_its_key(tmp_path: Path, authority: trustme.CA) -> None:
    cert, key = write_pair(tmp_path, authority)
    _, other_key = write_pair(tmp_path, authority, "other")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    absent = str(tmp_path / "absent.pem")
    cases = [
        (TlsSettings(ca_path=absent), r"cannot read tls\.ca_path .*no such file"),
        (TlsSettings(ca_path=str(garbage)), r"cannot use tls\.ca_path .*no PEM certificate"),
        (TlsSettings(ca_path=cert, cert_path=absent, key_path=key), r"cannot read tls\.cert_path .*no such file"),
        (TlsSettings(ca_path=cert, cert_path=cert, key_path=absent), r"cannot read tls\.key_path .*no such file"),
        (TlsSettings(ca_path=cert, cert_path=str(tmp_path), key_path=key), r"cannot read tls\.cert_path .*directory"),
        (TlsSettings(ca_path=cert, cert_path=str(garbage), key_path=key), r"cannot use tls\.cert_path"),
        (TlsSettings(ca_path=cert, cert_path=cert, key_path=str(garbage)), r"with tls\.key_path"),
        (TlsSettings(ca_path=cert, cert_path=cert, key_path=other_key), "the key does not belong to the certificate"),
        (TlsSettings(ca_path=cert, key_path=key), r"tls\.cert_path is not set"),
    ]
    for settings, words in cases:
        with pytest.raises(TlsFileError, match=words):
            TlsFiles(settings).context()


def test_an_encrypted_key_is_an_error_and_no_question_on_the_terminal(tmp_path: Path, authority: trustme.CA) -> None:
    cert, key = write_pair(tmp_path, authority)
    secret = load_pem_private_key(Path(key).read_bytes(), password=None)
    Path(key).write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")))
    with pytest.raises(TlsFileError, match="the key is encrypted"):
        TlsFiles(TlsSettings(ca_path=cert, cert_path=cert, key_path=key)).context()


def test_changes_are_noticed_by_content_replacement_and_removal(tmp_path: Path, authority: trustme.CA) -> None:
    cert, key = write_pair(tmp_path, authority)
    files = TlsFiles(TlsSettings(ca_path=cert, cert_path=cert, key_path=key))
    files.context()
    assert not files.changed()

    write_pair(tmp_path, authority)
    assert files.changed()
    assert files.renewed()
    assert not files.changed()

    new_cert, _ = write_pair(tmp_path, authority, "new")
    os.replace(new_cert, cert)
    assert files.changed()
    assert not files.renewed(), "certificate and key are of different pairs until the key follows"
    assert not files.changed(), "a change that does not work is looked at once"

    os.replace(tmp_path / "new.key", key)
    assert files.renewed()

    os.unlink(key)
    assert files.changed()
    assert not files.renewed()


def test_without_files_nothing_ever_changes() -> None:
    assert not TlsFiles(TlsSettings()).changed()
