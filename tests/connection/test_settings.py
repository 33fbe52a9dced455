"""Settings that can never dial are refused when they are made, and the token shows nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from syntra.connection.errors import ConnectionSettingsError
from syntra.connection.settings import ConnectionSettings

TOKEN = "syn_agt_0123456789"


def make(**changes: Any) -> ConnectionSettings:
    return ConnectionSettings(
        **{"endpoint": "wss://api.example/agent/ws", "token": TOKEN, "version": "0.1.0", **changes}
    )


def test_the_token_is_not_in_the_repr() -> None:
    assert TOKEN not in repr(make())


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("https://api.example/agent/ws", "does not begin with wss://"),
        ("api.example", "does not begin with wss://"),
        ("", "does not begin with wss://"),
        ("wss://", "names no host"),
        ("wss:///agent/ws", "names no host"),
        ("wss://user:secret@api.example/", "user name or password"),
        ("wss://api.example/#x", "fragment"),
        ("wss://api.example:99999/", "ort"),
        ("wss://[::1/", "cannot use the endpoint"),
    ],
)
def test_an_endpoint_that_cannot_be_dialled_says_why_without_quoting_it(endpoint: str, reason: str) -> None:
    with pytest.raises(ConnectionSettingsError, match=reason) as caught:
        make(endpoint=endpoint)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "tökén", "a\x00"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_quoted(token: str) -> None:
    with pytest.raises(ConnectionSettingsError, match="cannot use the agent token") as caught:
        make(token=token)
    assert token == "" or token not in str(caught.value)


def test_the_version_travels_in_a_header_too() -> None:
    with pytest.raises(ConnectionSettingsError, match="cannot use the agent version"):
        make(version="1.0\r\n")


@pytest.mark.parametrize(
    ("endpoint", "secure", "loopback"),
    [
        ("wss://api.example/agent/ws", True, False),
        ("WSS://API.example/agent/ws", True, False),
        ("ws://localhost:8080/agent/ws", False, True),
        ("ws://127.9.9.9/", False, True),
        ("ws://[::1]:80/", False, True),
        ("ws://10.0.0.1/", False, False),
        ("ws://localhost.example/", False, False),
    ],
)
def test_security_and_loopback_are_read_from_the_endpoint(endpoint: str, secure: bool, loopback: bool) -> None:
    settings = make(endpoint=endpoint)
    assert settings.secure is secure
    assert settings.loopback is loopback
