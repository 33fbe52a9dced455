"""TLS to the control plane: a new SSLContext for every dial, built from the current files.

Nothing is cached, so a renewed certificate needs no reload: the next dial uses it. `changed()` reports that a new dial
would use different files. A server's refusal of the client certificate arrives late: with TLS 1.3 the client's
handshake ends before the server has verified the certificate (RFC 8446 §2, figure 1), so the first read fails.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from syntra.connection.errors import TlsFileError
from syntra.connection.settings import TlsSettings

_log = logging.getLogger(__name__)

TRUST_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL, Amazon Linux
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # newer Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, BSDs
)
"""Where distributions keep their CA bundle. OpenSSL searches only its compiled-in path; one binary runs on all."""


class TlsFiles:
    """Builds contexts and remembers the versions of the files that it built the last one from."""

    def __init__(self, settings: TlsSettings, *, bundles: Sequence[str] = TRUST_BUNDLES) -> None:
        self._settings = settings
        self._bundles = bundles
        self._seen = self._signature()

    def context(self) -> ssl.SSLContext:
        """Build a context that verifies certificate and host name, with TLS 1.2 or newer.

        Raises TlsFileError, naming the configuration key. Reads files: tens of milliseconds with a large bundle.
        """
        # Taken before reading: a file that changes during the read counts as changed afterwards.
        self._seen = self._signature()
        settings = self._settings
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        trusted = _load_platform_roots(context, self._bundles)
        if settings.ca_path is not None:
            _load_authorities(context, settings.ca_path)
        elif not trusted:
            raise TlsFileError(
                "cannot verify the control plane: this machine has no trusted certificates; "
                "install the ca-certificates package or set tls.ca_path"
            )
        _load_client_certificate(context, settings)
        return context

    def changed(self) -> bool:
        """Whether a file's inode, size or modification time differs from the last context's, valid or not."""
        return self._signature() != self._seen

    def renewed(self) -> bool:
        """Whether the files changed and are valid. An invalid change is logged once."""
        if not self.changed():
            return False
        try:
            self.context()
        except TlsFileError as exc:
            _log.error("cannot use the changed tls files", extra={"reason": str(exc)})
            return False
        return True

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        settings = self._settings
        return tuple(_stamp(path) for path in (settings.ca_path, settings.cert_path, settings.key_path))


def _stamp(path: str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _load_platform_roots(context: ssl.SSLContext, bundles: Sequence[str]) -> bool:
    """Load the roots from `bundles` if OpenSSL found none; return whether any roots exist."""
    if context.get_ca_certs():
        return True
    paths = ssl.get_default_verify_paths()  # honours SSL_CERT_FILE and SSL_CERT_DIR
    if paths.capath is not None and any(Path(paths.capath).glob("*.[0-9]")):
        return True  # OpenSSL searches a hashed directory during the handshake
    for bundle in bundles:
        try:
            context.load_verify_locations(cafile=bundle)
        except OSError:  # includes SSLError: try the next bundle
            continue
        return True
    return False


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as exc:
        raise TlsFileError(f"cannot use tls.ca_path {path}: it holds no PEM certificate; check the file") from exc
    except OSError as exc:
        raise _unreadable("tls.ca_path", path, exc) from exc


def _load_client_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if settings.cert_path is None:
        if settings.key_path is not None:
            raise TlsFileError("cannot use tls.key_path: tls.cert_path is not set; set both or neither")
        return
    for key, path in (("tls.cert_path", settings.cert_path), ("tls.key_path", settings.key_path)):
        if path is not None:
            _check_readable(key, path)
    where = f"tls.cert_path {settings.cert_path}"
    if settings.key_path is not None:
        where += f" with tls.key_path {settings.key_path}"
    try:
        # Without a password function OpenSSL would prompt on the terminal for an encrypted key.
        context.load_cert_chain(settings.cert_path, settings.key_path, password=_no_password)
    except ssl.SSLError as exc:
        raise TlsFileError(f"cannot use {where}: {_reason(exc)}") from exc
    except (OSError, ValueError) as exc:
        raise TlsFileError(f"cannot use {where}: {exc}; check both files") from exc


def _check_readable(key: str, path: str) -> None:
    # load_cert_chain does not say which of its two files it could not open.
    try:
        with open(path, "rb"):
            pass
    except OSError as exc:
        raise _unreadable(key, path, exc) from exc


def _unreadable(key: str, path: str, exc: OSError) -> TlsFileError:
    reason = (exc.strerror or str(exc)).lower()
    return TlsFileError(f"cannot read {key} {path}: {reason}; check the path and its permissions")


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(exc: ssl.SSLError) -> str:
    if exc.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate; write both files of one pair"
    if exc.reason is not None and "NO_START_LINE" in exc.reason:
        return "there is no PEM certificate or key in it; check the files"
    return f"{(exc.reason or 'OpenSSL cannot read it').lower().replace('_', ' ')}; check the files"
