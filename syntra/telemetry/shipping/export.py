"""Builds the exporter that the settings `telemetry.export` ask for."""

from __future__ import annotations

import ssl
from dataclasses import field
from enum import Enum
from pathlib import Path

from syntra.telemetry.shipping.destination import Destination
from syntra.telemetry.shipping.endpoint import Endpoint, parse_endpoint
from syntra.telemetry.shipping.headers import parse_headers
from syntra.telemetry.shipping.otlp_http import Compression, OtlpHttpExporter
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen

FULL_BATCHES = 8
"""Full batches in one request to an OTLP endpoint: most of the cost of sending is per request."""


class Protocol(Enum):
    """The transport. The value is the setting's."""

    GRPC = "grpc"
    HTTP_PROTOBUF = "http/protobuf"


@frozen
class ExportSettings:
    """`telemetry.export`. `headers` is the text of the setting or of the file, and is secret."""

    endpoint: str
    protocol: Protocol = Protocol.HTTP_PROTOBUF
    headers: str = field(default="", repr=False)
    compression: Compression = Compression.GZIP
    timeout_secs: float = 10.0
    ca_path: Path | None = None
    cert_path: Path | None = None
    key_path: Path | None = None


def check(settings: ExportSettings) -> Endpoint:
    """Check the settings without opening a file. Returns the endpoint. Raises AgentError; no error has a secret."""
    is_grpc = settings.protocol is Protocol.GRPC
    endpoint = parse_endpoint(settings.endpoint, is_grpc=is_grpc)
    parse_headers(settings.headers)
    if is_grpc and settings.compression is Compression.ZSTD:
        raise AgentError(
            "cannot use telemetry.export.compression zstd: the agent's gRPC has no zstd;"
            " use gzip or none, or the protocol http/protobuf"
        )
    if (settings.cert_path is None) is not (settings.key_path is None):
        raise AgentError(
            "cannot use telemetry.export.cert_path: certificate and key belong together; set key_path and cert_path"
        )
    if not endpoint.is_tls and (settings.ca_path or settings.cert_path):
        raise AgentError(
            "cannot use the certificates of telemetry.export: the endpoint has no TLS; write https:// in its address"
        )
    return endpoint


def open_exporter(settings: ExportSettings) -> Destination:
    """Make the exporter, on the event loop that uses it. It connects for the first batch. Raises AgentError."""
    endpoint = check(settings)
    headers = parse_headers(settings.headers)
    if settings.protocol is Protocol.HTTP_PROTOBUF:
        return OtlpHttpExporter(
            endpoint,
            compression=settings.compression,
            headers=headers,
            tls=_tls(settings) if endpoint.is_tls else None,
            timeout_secs=settings.timeout_secs,
        )
    # grpcio takes 20 MB of memory, which an exporter over HTTP does not need.
    import grpc

    from syntra.telemetry.shipping.otlp_grpc import OtlpGrpcExporter

    credentials = None
    if endpoint.is_tls:
        _tls(settings)  # its errors are better
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_read(settings.ca_path or _system_certificates()),
            private_key=_read(settings.key_path),
            certificate_chain=_read(settings.cert_path),
        )
    return OtlpGrpcExporter(
        endpoint,
        gzip=settings.compression is Compression.GZIP,
        headers=headers,
        credentials=credentials,
        timeout_secs=settings.timeout_secs,
    )


def _tls(settings: ExportSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_path)
    except OSError as exc:  # ssl.SSLError is one
        raise _unreadable("ca_path", settings.ca_path, exc) from exc
    if settings.cert_path is not None:
        try:
            context.load_cert_chain(settings.cert_path, settings.key_path, password=_no_password)
        except (OSError, ValueError) as exc:
            raise _unreadable("cert_path and key_path", settings.cert_path, exc) from exc
    return context


def _no_password() -> str:
    """OpenSSL asks on the terminal without this."""
    raise ValueError("the key is encrypted")


def _unreadable(name: str, path: Path | None, exc: Exception) -> AgentError:
    reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
    return AgentError(f"cannot use telemetry.export.{name}, {path}: {reason}; check the file")


def _system_certificates() -> Path | None:
    """grpcio's own certificates know no local authority."""
    found = ssl.get_default_verify_paths().cafile
    return Path(found) if found else None


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _unreadable("…_path", path, exc) from exc
