"""Checks whether a certificate and its key can serve a domain.

Errors never quote the input: a private key may be in the wrong field.
"""

from __future__ import annotations

from dataclasses import field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

if TYPE_CHECKING:
    from cryptography import x509

MAX_CHAIN = 10


class InvalidCertificate(AgentError):
    """The certificate or key cannot serve the domain. The message names the field."""

    code = "INVALID_CERTIFICATE"


@frozen
class CheckedCertificate:
    """A chain and its key, re-encoded as PEM. `not_after` is epoch seconds; `digest` is of the leaf."""

    domain: str
    chain: bytes = field(repr=False)
    private_key: bytes = field(repr=False)
    not_after: float
    digest: str


def check(domain: str, certificate: str, private_key: str, now: float) -> CheckedCertificate:
    """Check a certificate (PEM, leaf first) and its key at `now` (epoch seconds). Raises InvalidCertificate."""
    # A slow import that most agents never need.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization

    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError:
        raise InvalidCertificate("certificate: is not PEM; send the certificate, followed by its chain") from None
    if len(chain) > MAX_CHAIN:
        raise InvalidCertificate(f"certificate: {len(chain)} certificates are more than {MAX_CHAIN}")
    try:
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidCertificate("private_key: is not a private key in PEM without a passphrase") from None
    leaf = chain[0]
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*spki) != key.public_key().public_bytes(*spki):
        raise InvalidCertificate("private_key: does not belong to the first certificate; send the leaf first")
    names = _names(leaf)
    if not any(covers(name, domain) for name in names):
        known = ", ".join(names[:5]) or "no name at all"
        raise InvalidCertificate(f"certificate: is for {known[:300]}, not for {domain}")
    begins, ends = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if now >= ends:
        raise InvalidCertificate(f"certificate: expired on {_day(ends)}; send a renewed one")
    if now < begins:
        raise InvalidCertificate(f"certificate: is not valid before {_day(begins)}; check the server's clock")
    return CheckedCertificate(
        domain=domain,
        chain=b"".join(item.public_bytes(serialization.Encoding.PEM) for item in chain),
        private_key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        not_after=ends,
        digest=leaf.fingerprint(hashes.SHA256()).hex()[:16],
    )


def expires_at(chain: bytes) -> float | None:
    """The expiry of the first certificate of a PEM file, in epoch seconds; None when it is unreadable."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(chain).not_valid_after_utc.timestamp()
    except ValueError:
        return None


def covers(name: str, domain: str) -> bool:
    """Whether a certificate's name covers the domain. A wildcard covers exactly one label (RFC 6125 section 6.4.3)."""
    name = name.lower().rstrip(".")
    if name == domain:
        return True
    return name.startswith("*.") and not domain.startswith("*.") and domain.partition(".")[2] == name[2:]


def _names(leaf: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        # Browsers ignore the common name (RFC 6125 section 6.4.4).
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return alternative.get_values_for_type(x509.DNSName)


def _day(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")
