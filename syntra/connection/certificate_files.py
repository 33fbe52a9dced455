"""Client certificates on disk: key and certificate of a pair in one file, so no kill can leave half a pair.

`DIR/current.pem` is in use, `DIR/candidate.pem` is tried. Each is written atomically with mode 0600; accepting a
candidate is one rename over the current file. The first lines of a file name the endpoint and the server that it was
issued for: OpenSSL ignores text before the first PEM block. A file for another one is not used.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from syntra.connection.enrolment import CertificateFacts, Slot
from syntra.utils import atomic_file
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

_MAX_FILE_BYTES = 256 * 1024
_KEY = "PRIVATE KEY"


class CertificateUnusable(AgentError):
    """A certificate cannot be read or does not belong to its key. The message never quotes a file."""


@frozen
class KeyAndRequest:
    """A new private key and the request for its certificate. The key is in memory only, until the certificate came."""

    request_pem: str
    key: object

    def __repr__(self) -> str:
        return "KeyAndRequest(…)"


def new_request(server_id: str) -> KeyAndRequest:
    """Make a P-256 key and a certificate signing request (RFC 2986). Takes about a millisecond."""
    from cryptography import x509  # imported where it is used, so that an agent without enrolment starts faster
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, server_id[:64])])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return KeyAndRequest(request_pem=csr.public_bytes(serialization.Encoding.PEM).decode(), key=key)


def facts_of(pem: bytes) -> CertificateFacts:
    """The facts of the first certificate in PEM text. Raises CertificateUnusable."""
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(pem)
        return CertificateFacts(
            serial=f"{leaf.serial_number:x}",
            subject=leaf.subject.rfc4514_string(),
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
        )
    except ValueError as exc:
        raise CertificateUnusable("cannot read the certificate: there is no valid PEM certificate in it") from exc


def pair_of(request: KeyAndRequest, certificate_pem: str, now: float) -> bytes:
    """Key and chain as one PEM text, ready to be written. Raises CertificateUnusable when they do not fit."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = request.key
    assert isinstance(key, ec.EllipticCurvePrivateKey), "cannot happen because new_request made the key"
    if _KEY in certificate_pem:
        raise CertificateUnusable("cannot use the certificate: the answer has a private key in it")
    try:
        chain = x509.load_pem_x509_certificates(certificate_pem.encode())
    except ValueError as exc:
        raise CertificateUnusable("cannot use the certificate: it is not valid PEM") from exc
    if chain[0].public_key() != key.public_key():
        raise CertificateUnusable("cannot use the certificate: it is not for the key of this request")
    if chain[0].not_valid_after_utc.timestamp() <= now:
        raise CertificateUnusable("cannot use the certificate: it has ended already; check this machine's clock")
    encoding = serialization.Encoding.PEM
    blocks = [key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())]
    return b"".join([*blocks, *(certificate.public_bytes(encoding) for certificate in chain)])


class CertificateFiles:
    """The two files. All methods block on the disk; their errors are AgentError."""

    def __init__(self, directory: Path, *, endpoint: str, server_id: str) -> None:
        self._directory = directory
        self._head = f"endpoint {endpoint}\nserver {server_id}\n".encode()

    def path(self, slot: Slot) -> Path:
        """The file of a slot."""
        return self._directory / f"{slot.value}.pem"

    def load(self) -> dict[Slot, CertificateFacts]:
        """What is on disk for this endpoint and server. Removes what a kill left behind, and an unusable candidate."""
        found: dict[Slot, CertificateFacts] = {}
        for remnant in self._directory.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                remnant.unlink()
        for slot in (Slot.CURRENT, Slot.CANDIDATE):
            try:
                found[slot] = self._read(slot)
            except FileNotFoundError:
                continue
            except (OSError, AgentError):
                if slot is Slot.CANDIDATE:
                    self.drop_candidate()
        return found

    def write_candidate(self, pair: bytes) -> CertificateFacts:
        """Write the pair as the candidate and read it back. Raises AgentError."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise AgentError(f"cannot create {self._directory}: {exc.strerror or exc}; check data_dir") from exc
        atomic_file.write(self.path(Slot.CANDIDATE), self._head + pair, 0o600)
        try:
            return self._read(Slot.CANDIDATE)
        except OSError as exc:
            raise AgentError(f"cannot read {self.path(Slot.CANDIDATE)}: {exc.strerror or exc}; check the disk") from exc

    def accept_candidate(self) -> None:
        """Rename the candidate over the current file. Raises AgentError."""
        try:
            os.rename(self.path(Slot.CANDIDATE), self.path(Slot.CURRENT))
            self._sync()
        except OSError as exc:
            raise AgentError(
                f"cannot replace {self.path(Slot.CURRENT)}: {exc.strerror or exc}; check the disk"
            ) from exc

    def drop_candidate(self) -> None:
        """Delete the candidate, if there is one."""
        with contextlib.suppress(OSError):
            self.path(Slot.CANDIDATE).unlink()

    def _read(self, slot: Slot) -> CertificateFacts:
        with self.path(slot).open("rb") as file:
            text = file.read(_MAX_FILE_BYTES)
        if not text.startswith(self._head):
            raise CertificateUnusable(f"cannot use {self.path(slot)}: it is for another control plane or server")
        return facts_of(text)

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
