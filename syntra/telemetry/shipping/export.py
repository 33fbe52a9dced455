"""Builds the exporter that the settings `telemetry.export` ask for."""

from __future__ import annotations

import ssl
from dataclasses import field
from enum import Enum
from pathlib import Path

from syntra.telemetry.shipping.bodies import Compression
from syntra.telemetry.shipping.destination import Destination
from syntra.telemetry.shipping.endpoint import Endpoint, parse_endpoint
from syntra.telemetry.shipping.headers import parse_headers
from syntra.telemetry.shipping.otlp_http import OtlpHttpExporter
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
    endpoint = parse_endpoint(settings.endpoint, is_grpc=settings.protocol is Protocol.GRPC)
    parse_headers(settings.headers)
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
    # Its HTTP/2 is loaded only where it is needed.
    from syntra.telemetry.shipping.otlp_grpc import OtlpGrpcExporter

    return OtlpGrpcExporter(
        endpoint,
        compression=settings.compression,
        headers=headers,
        tls=_tls(settings) if endpoint.is_tls else None,
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
    if settings.protocol is Protocol.GRPC:
        context.set_alpn_protocols(["h2"])
    return context


def _no_password() -> str:
    """OpenSSL asks on the terminal without this."""
    raise ValueError("the key is encrypted")


def _unreadable(name: str, path: Path | None, exc: Exception) -> AgentError:
    reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
    return AgentError(f"cannot use telemetry.export.{name}, {path}: {reason}; check the file")
