"""Settings of `telemetry.export`: what is refused, and that the exporter they make works."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from syntra.telemetry.shipping.bodies import Compression
from syntra.telemetry.shipping.export import ExportSettings, Protocol, check, open_exporter
from syntra.telemetry.signals import Signal
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen
from tests.telemetry.shipping.samples import SAMPLES
from tests.telemetry.shipping.sinks import GrpcSink, HttpSink

CANARY = "canary-9a70"
HTTPS = "https://127.0.0.1:1"


@frozen
class Files:
    """Certificates on disk."""

    ca: Path
    cert: Path
    key: Path
    bad: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = trustme.CA()
    mine = authority.issue_cert("agent@example.org")
    made = Files(ca=tmp_path / "ca", cert=tmp_path / "cert", key=tmp_path / "key", bad=tmp_path / "bad")
    authority.cert_pem.write_to_path(str(made.ca))
    mine.cert_chain_pems[0].write_to_path(str(made.cert))
    mine.private_key_pem.write_to_path(str(made.key))
    made.bad.write_text("not a certificate")
    return made


def test_certificate_and_key_belong_together(files: Files) -> None:
    with pytest.raises(AgentError, match="certificate and key belong together"):
        check(ExportSettings(endpoint=HTTPS, cert_path=files.cert))


def test_certificates_need_tls(files: Files) -> None:
    with pytest.raises(AgentError, match="the endpoint has no TLS"):
        check(ExportSettings(endpoint="http://host", ca_path=files.ca))


def test_headers_are_checked_and_never_shown() -> None:
    settings = ExportSettings(endpoint=HTTPS, headers=f"authorization {CANARY}")
    assert CANARY not in repr(settings)
    with pytest.raises(AgentError) as caught:
        check(settings)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("protocol", Protocol)
async def test_files_that_cannot_be_used_are_named(protocol: Protocol, files: Files, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    for settings, name in (
        (ExportSettings(endpoint=HTTPS, protocol=protocol, ca_path=gone), "ca_path"),
        (ExportSettings(endpoint=HTTPS, protocol=protocol, ca_path=files.bad), "ca_path"),
        (ExportSettings(endpoint=HTTPS, protocol=protocol, cert_path=files.bad, key_path=files.key), "cert_path"),
        (ExportSettings(endpoint=HTTPS, protocol=protocol, cert_path=files.cert, key_path=gone), "cert_path"),
    ):
        with pytest.raises(AgentError, match=rf"cannot use telemetry\.export\.{name}.*; check the file"):
            open_exporter(settings)


@pytest.mark.parametrize("compression", Compression)
async def test_http_settings_make_an_exporter_that_works(compression: Compression) -> None:
    async with HttpSink().listen() as sink:
        endpoint = f"http://127.0.0.1:{sink.port}"
        settings = ExportSettings(endpoint=endpoint, compression=compression, headers=f"x-key={CANARY}")
        destination = open_exporter(settings)
        assert (await destination.send(SAMPLES[Signal.LOGS])).taken == 3
        await destination.aclose()
        assert destination.name == endpoint
    assert sink.received[0].headers["x-key"] == CANARY


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
async def test_grpc_settings_make_an_exporter_that_works(compression: Compression) -> None:
    async with GrpcSink().listen() as sink:
        settings = ExportSettings(
            endpoint=f"http://127.0.0.1:{sink.port}",
            protocol=Protocol.GRPC,
            compression=compression,
            headers=f"X-Key={CANARY}",
        )
        destination = open_exporter(settings)
        assert (await destination.send(SAMPLES[Signal.LOGS])).taken == 3
        await destination.aclose()
    assert sink.received[0].headers["x-key"] == CANARY
