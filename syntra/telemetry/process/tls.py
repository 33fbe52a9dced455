"""The files of `[telemetry.tls]` as the receivers take them."""

from __future__ import annotations

import ssl
from pathlib import Path

from syntra.telemetry.otlp.grpc_server import GrpcTls
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


def grpc_tls(files: TlsFiles) -> GrpcTls:
    """For OTLP over gRPC. Raises AgentError: grpcio itself accepts any bytes, and then cannot bind."""
    http_tls(files)
    return GrpcTls(
        certificate=_read(files.cert_path, "telemetry.tls.cert_path"),
        key=_read(files.key_path, "telemetry.tls.key_path"),
        client_ca=_read(files.ca_path, "telemetry.tls.client_ca_path") if files.ca_path else None,
    )


def _read(path: str | None, key: str) -> bytes:
    assert path is not None, "cannot happen because the configuration has both files or none"
    try:
        return Path(path).read_bytes()
    except OSError as failed:
        raise AgentError(f"cannot read {key} {path}: {failed.strerror}; check the path and its owner") from failed
