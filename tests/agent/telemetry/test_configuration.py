"""What the agent tells the telemetry process, and what both keep out of their logs."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from syntra.agent.config.settings import (
    ControlPlaneSettings,
    ExportSettings,
    LoggingSettings,
    ReceiverTlsSettings,
    Settings,
    TelemetrySettings,
)
from syntra.agent.telemetry.configuration import configuration, header_secrets
from syntra.telemetry.process.main import configure_logging
from syntra.telemetry.process.settings import MIB, parse_settings
from syntra.telemetry.shipping.export import Protocol
from syntra.telemetry.shipping.headers import parse_headers
from syntra.telemetry.signals import Signal

CHANGED = Settings(
    data_dir=Path("/d"),
    telemetry=TelemetrySettings(
        otlp_grpc_port=1,
        otlp_http_port=2,
        listen=("192.0.2.1", "::"),
        otlp_grpc_socket="/g",
        otlp_http_socket="/h",
        cors_origins=("https://shop.example",),
        max_request_mb=3,
        receive_memory_mb=4,
        buffer_max_mb=5,
        buffer_fsync="always",
        batch_interval_secs=6,
        batch_max_items=7,
        sampling_rate=0.5,
        target_spans_per_sec=8.0,
        tls=ReceiverTlsSettings(cert_path=Path("/c"), key_path=Path("/k"), client_ca_path=Path("/a")),
        export=ExportSettings(
            endpoint="https://otlp.example:4317",
            protocol="http/protobuf",
            headers="authorization=Bearer%20x",
            compression="zstd",
            signals=("logs", "profiles"),
            timeout_secs=9.0,
            ca_path=Path("/ca"),
            cert_path=Path("/ec"),
            key_path=Path("/ek"),
        ),
    ),
)


def test_every_setting_arrives_in_the_process() -> None:
    told = configuration(CHANGED, agent_id="agt_1", server_id="srv_1")
    # As it travels.
    found = parse_settings(json.loads(json.dumps(told)))
    assert (found.data_dir, found.agent_id, found.server_id, found.has_control_plane) == ("/d", "agt_1", "srv_1", False)
    assert (found.grpc_port, found.http_port, found.listen) == (1, 2, ("192.0.2.1", "::"))
    assert (found.grpc_socket, found.http_socket, found.cors_origins) == ("/g", "/h", ("https://shop.example",))
    assert (found.max_request_bytes, found.receive_memory_bytes, found.buffer_max_bytes) == (3 * MIB, 4 * MIB, 5 * MIB)
    assert (found.buffer_fsync, found.batch_interval_secs, found.batch_max_items) == ("always", 6.0, 7)
    assert (found.sampling_rate, found.target_spans_per_sec) == (0.5, 8.0)
    assert (found.tls.cert_path, found.tls.key_path, found.tls.ca_path) == ("/c", "/k", "/a")
    assert found.export_signals == {Signal.LOGS, Signal.PROFILES}
    export = found.export
    assert export is not None
    assert (export.endpoint, export.protocol) == ("https://otlp.example:4317", Protocol("http/protobuf"))
    assert (export.headers, export.compression.value, export.timeout_secs) == ("authorization=Bearer%20x", "zstd", 9.0)
    assert (export.ca_path, export.cert_path, export.key_path) == (Path("/ca"), Path("/ec"), Path("/ek"))


def test_without_an_endpoint_there_is_no_export_and_without_files_no_tls() -> None:
    found = parse_settings(configuration(Settings(), agent_id="a", server_id="s"))
    assert found.export is None
    assert (found.tls.cert_path, found.tls.key_path, found.tls.ca_path) == (None, None, None)


def test_the_token_of_the_control_plane_is_not_told() -> None:
    control_plane = ControlPlaneSettings(endpoint="wss://cp.example/agent/ws", token="syn_agt_canary")
    told = configuration(Settings(control_plane=control_plane), agent_id="a", server_id="s")
    assert told["has_control_plane"] is True
    assert "syn_agt_canary" not in json.dumps(told)


@pytest.mark.parametrize(
    ("headers", "secrets"),
    [
        (None, set()),
        ("", set()),
        ("x=", set()),
        ("x-key=abcdefgh", {"abcdefgh"}),
        ("a=first-secret, b = second%3Dsecret ", {"first-secret", "second=secret", "second%3Dsecret"}),
        ("authorization=Bearer%20tok%2Ben", {"Bearer tok+en", "tok+en", "Bearer%20tok%2Ben"}),
        ("a=with=equals", {"with=equals"}),
    ],
)
def test_headers_are_secret_as_written_as_sent_and_word_by_word(headers: str | None, secrets: set[str]) -> None:
    found = {text.strip() for text in header_secrets(headers)}
    assert secrets <= found
    for _, value in parse_headers(headers or ""):
        assert not value or value in found


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_header_gets_into_the_log_of_the_process(tmp_path: Path, form: str) -> None:
    headers = "authorization=Bearer%20canary%2Ftoken,x-key=canary-key"
    settings = Settings(
        telemetry=TelemetrySettings(export=ExportSettings(endpoint="https://x.example", headers=headers)),
        logging=LoggingSettings(level="debug", format=form, file=tmp_path / "log"),
    )
    told = json.loads(json.dumps(configuration(settings, agent_id="a", server_id="s")))
    handle = configure_logging(told["logging"])
    try:
        log = logging.getLogger("syntra.test")
        log.error("the peer says canary/token", extra={"reason": "canary-key", "sent": headers, "told": told})
        try:
            raise ValueError("Bearer canary/token")
        except ValueError:
            log.exception("it failed")
    finally:
        handle.close()
    written = (tmp_path / "log").read_text()
    assert "the peer says" in written and "it failed" in written
    for secret in ("canary/token", "canary-key", "canary%2Ftoken"):
        assert secret not in written
