"""The settings of the telemetry process, as the agent sends them in `configure`. Pure.

The keys and their meaning are those of `[telemetry]` in the configuration; `syntra.agent.config` has checked them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syntra.telemetry.process.scraping import ScrapeSettings, parse_scraping
from syntra.telemetry.shipping.bodies import Compression
from syntra.telemetry.shipping.export import ExportSettings, Protocol
from syntra.telemetry.signals import Signal
from syntra.utils.frozen import frozen

MIB = 1024 * 1024


@frozen
class TlsFiles:
    """Paths of PEM files; None when not configured."""

    cert_path: str | None
    key_path: str | None
    ca_path: str | None


@frozen
class ProcessSettings:
    """Everything that the process gets at its start."""

    data_dir: str
    agent_id: str
    server_id: str
    has_control_plane: bool
    grpc_port: int
    http_port: int
    listen: tuple[str, ...]
    grpc_socket: str
    http_socket: str
    cors_origins: tuple[str, ...]
    max_request_bytes: int
    receive_memory_bytes: int
    buffer_max_bytes: int
    buffer_fsync: str
    batch_interval_secs: float
    batch_max_items: int
    sampling_rate: float
    target_spans_per_sec: float
    tls: TlsFiles
    export_signals: frozenset[Signal]
    export: ExportSettings | None
    """The OTLP endpoint that gets everything beside the control plane."""
    scraping: ScrapeSettings


def parse_settings(fields: Mapping[str, Any]) -> ProcessSettings:
    """The settings from a `configure` message; see `agent.telemetry.configuration` for the other half."""
    telemetry = fields["telemetry"]
    export = telemetry["export"]
    return ProcessSettings(
        data_dir=fields["data_dir"],
        agent_id=fields["agent_id"],
        server_id=fields["server_id"],
        has_control_plane=fields["has_control_plane"],
        grpc_port=telemetry["otlp_grpc_port"],
        http_port=telemetry["otlp_http_port"],
        listen=tuple(telemetry["listen"]),
        grpc_socket=telemetry["otlp_grpc_socket"],
        http_socket=telemetry["otlp_http_socket"],
        cors_origins=tuple(telemetry["cors_origins"]),
        max_request_bytes=telemetry["max_request_mb"] * MIB,
        receive_memory_bytes=telemetry["receive_memory_mb"] * MIB,
        buffer_max_bytes=telemetry["buffer_max_mb"] * MIB,
        buffer_fsync=telemetry["buffer_fsync"],
        batch_interval_secs=float(telemetry["batch_interval_secs"]),
        batch_max_items=telemetry["batch_max_items"],
        sampling_rate=telemetry["sampling_rate"],
        target_spans_per_sec=telemetry["target_spans_per_sec"],
        tls=_tls(telemetry["tls"]),
        export_signals=frozenset(Signal(name) for name in export["signals"]),
        export=_export(export) if export["endpoint"] else None,
        scraping=parse_scraping(telemetry),
    )


def _export(export: Mapping[str, Any]) -> ExportSettings:
    ca, cert, key = (Path(path) if (path := export[name]) else None for name in ("ca_path", "cert_path", "key_path"))
    return ExportSettings(
        endpoint=export["endpoint"],
        protocol=Protocol(export["protocol"]),
        headers=export["headers"] or "",
        compression=Compression(export["compression"]),
        timeout_secs=export["timeout_secs"],
        ca_path=ca,
        cert_path=cert,
        key_path=key,
    )


def _tls(section: Mapping[str, Any]) -> TlsFiles:
    return TlsFiles(cert_path=section["cert_path"], key_path=section["key_path"], ca_path=section["client_ca_path"])
