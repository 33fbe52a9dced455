"""The files of `[telemetry.tls]` as the receivers take them."""

from __future__ import annotations

import ssl

from syntra.telemetry.process.settings import TlsFiles
from syntra.utils.errors import AgentError


def http_tls(files: TlsFiles) -> ssl.SSLContext:
    """For OTLP over HTTP. Raises AgentError."""
    assert files.cert_path is not None, "cannot happen because only an address with TLS asks for it"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(files.cert_path, files.key_path)
        if files.ca_path:
            context.load_verify_locations(files.ca_path)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as failed:
        raise AgentError(f"cannot use telemetry.tls: {failed.strerror or failed}; check the three files") from failed
    return context


def grpc_tls(files: TlsFiles) -> ssl.SSLContext:
    """For OTLP over gRPC, which is HTTP/2 (RFC 9113 §3.2). Raises AgentError."""
    context = http_tls(files)
    context.set_alpn_protocols(["h2"])
    return context
