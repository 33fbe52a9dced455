"""The certificate authority of the control plane: signs client certificates for agents, with a root of its own.

Root and key are one file, made once, mode 0600. A certificate says only what the control plane knows: the server's id,
and that it is for client authentication. Nothing but the public key is taken from the request.
"""

from __future__ import annotations

import os
import secrets
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from syntra.utils import atomic_file
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

ROOT_DAYS = 3650
BACKDATED = timedelta(minutes=5)
"""A certificate begins this much earlier, for servers whose clock is behind; a short one begins less early."""
MAX_REQUEST_CHARS = 16 * 1024
_MAX_FILE_BYTES = 64 * 1024


class RequestRefused(AgentError):
    """A certificate signing request that is not signed. The message is for the agent."""


@frozen
class Issued:
    """A certificate: its PEM text, the SHA-256 of its DER form, its serial number in hexadecimal, its end."""

    pem: str
    fingerprint: bytes
    serial: str
    not_after: datetime


class Authority:
    """Signs certificates. Stateless besides its key; the caller keeps the records."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, root: x509.Certificate) -> None:
        self._key = key
        self._root = root

    def __repr__(self) -> str:
        return f"Authority({self.name!r})"

    @classmethod
    def open_or_create(cls, path: Path, now: datetime) -> Authority:
        """Open the authority's file, or make it. Raises AgentError when others can read it or it is broken."""
        if not path.exists():
            atomic_file.write(path, _new_root(now), 0o600)
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                pem = file.read(_MAX_FILE_BYTES)
        except OSError as exc:
            raise AgentError(
                f"cannot read the certificate authority {path}: {exc.strerror or exc}; check the data directory"
            ) from exc
        if mode & 0o077:
            raise AgentError(
                f"cannot use the certificate authority {path}: others can read it; delete it, and agents enrol again"
            )
        return cls(*_read(pem, path))

    @property
    def name(self) -> str:
        """The common name of the root, which every certificate has as its issuer."""
        from cryptography.x509.oid import NameOID

        return str(self._root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def root_pem(self) -> str:
        """The root's certificate, without its key."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self._root.public_bytes(Encoding.PEM).decode()

    def issue(self, request_pem: str, server_id: str, *, now: datetime, lifetime: timedelta) -> Issued:
        """Sign a request (RFC 2986) for this server. Raises RequestRefused, with the reason."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509.oid import ExtendedKeyUsageOID

        public_key = _requested_key(request_pem)
        not_before, not_after = now - min(BACKDATED, lifetime / 20), now + lifetime
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(server_id))
            .issuer_name(self._root.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            # Seconds are all that a certificate can hold.
            .not_valid_before(not_before.replace(microsecond=0))
            .not_valid_after(not_after.replace(microsecond=0))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        leaf = builder.sign(self._key, hashes.SHA256())
        return Issued(
            pem=leaf.public_bytes(Encoding.PEM).decode(),
            fingerprint=leaf.fingerprint(hashes.SHA256()),
            serial=f"{leaf.serial_number:x}",
            not_after=leaf.not_valid_after_utc,
        )


def _requested_key(request_pem: str) -> ec.EllipticCurvePublicKey:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(request_pem) > MAX_REQUEST_CHARS:
        raise RequestRefused(f"cannot sign the request: it is longer than {MAX_REQUEST_CHARS} characters")
    try:
        request = x509.load_pem_x509_csr(request_pem.encode())
        is_signed = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise RequestRefused("cannot sign the request: it is not a certificate signing request in PEM") from exc
    if not is_signed:
        raise RequestRefused("cannot sign the request: its signature is not by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        raise RequestRefused("cannot sign the request: its key is not on the curve P-256 or P-384")
    return key


def _new_root(now: datetime) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    # Each authority has a name of its own, so that its certificates differ from those of `--client-ca`.
    name = _name(f"Syntra agents {secrets.token_hex(8)}")
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - BACKDATED).replace(microsecond=0))
        .not_valid_after((now + timedelta(days=ROOT_DAYS)).replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + root.public_bytes(Encoding.PEM)


def _read(pem: bytes, path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    broken = (
        f"cannot use the certificate authority {path}: it is broken; restore it, or delete it and agents enrol again"
    )
    try:
        key = load_pem_private_key(pem, None)
        root = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError) as exc:
        raise AgentError(broken) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != root.public_key():
        raise AgentError(broken)
    return key, root


def _name(common_name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def utc(text: str) -> datetime:
    """A time of the control plane's clock."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
