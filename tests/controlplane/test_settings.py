"""Which listeners are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntra.controlplane.settings import ControlPlaneSettings, is_loopback
from syntra.utils.errors import AgentError

HERE = Path("data")


def test_the_default_listens_for_this_machine_only() -> None:
    settings = ControlPlaneSettings(data_dir=HERE)
    assert (settings.host, settings.port) == ("127.0.0.1", 7420)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.0.2.1", False),
        ("localhost.example", False),
    ],
)
def test_addresses_others_can_reach_need_tls_or_an_explicit_word(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if not loopback:
        with pytest.raises(AgentError, match="unencrypted"):
            ControlPlaneSettings(data_dir=HERE, host=host)
    ControlPlaneSettings(data_dir=HERE, host=host, allow_plain=True)
    ControlPlaneSettings(data_dir=HERE, host=host, tls_cert=HERE, tls_key=HERE)


def test_half_a_key_pair_is_refused() -> None:
    with pytest.raises(AgentError, match="give --tls-cert and --tls-key"):
        ControlPlaneSettings(data_dir=HERE, tls_cert=HERE)
    with pytest.raises(AgentError, match="give --tls-cert and --tls-key"):
        ControlPlaneSettings(data_dir=HERE, tls_key=HERE)


def test_client_certificates_need_tls() -> None:
    with pytest.raises(AgentError, match="no TLS"):
        ControlPlaneSettings(data_dir=HERE, client_ca=HERE)
