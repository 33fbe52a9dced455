"""Addresses of OTLP endpoints, and the path of each signal."""

from __future__ import annotations

import pytest

from syntra.telemetry.shipping.endpoint import SIGNALS, Endpoint, method, parse_endpoint
from syntra.telemetry.signals import Signal
from syntra.utils.errors import AgentError


@pytest.mark.parametrize(
    ("text", "endpoint", "traces"),
    [
        ("http://collector:4318", Endpoint(host="collector", port=4318, is_tls=False), "/v1/traces"),
        ("http://collector:4318/", Endpoint(host="collector", port=4318, is_tls=False), "/v1/traces"),
        ("https://otlp.example.org", Endpoint(host="otlp.example.org", port=443, is_tls=True), "/v1/traces"),
        (
            "https://example.org/api/v1/otlp/",
            Endpoint(host="example.org", port=443, is_tls=True, base="/api/v1/otlp"),
            "/api/v1/otlp/v1/traces",
        ),
        ("http://[::1]:4318", Endpoint(host="::1", port=4318, is_tls=False), "/v1/traces"),
        (" HTTP://Collector ", Endpoint(host="collector", port=80, is_tls=False), "/v1/traces"),
    ],
)
def test_the_path_of_the_signal_follows_the_path_of_the_endpoint(text: str, endpoint: Endpoint, traces: str) -> None:
    found = parse_endpoint(text, is_grpc=False)
    assert found == endpoint
    assert found.path(Signal.TRACES) == traces


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("collector:4318", "does not begin with http"),
        ("ftp://collector", "does not begin with http"),
        ("http://", "does not begin with http"),
        ("http://user:canary@host", "contains credentials"),
        ("http://host:99999", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://host/a?key=canary", "has a query"),
        ("http://host/a b", "percent-encoded"),
    ],
)
def test_what_is_wrong_is_said_without_the_address(text: str, reason: str) -> None:
    with pytest.raises(AgentError, match=reason) as caught:
        parse_endpoint(text, is_grpc=False)
    assert "canary" not in str(caught.value)


def test_grpc_has_no_path() -> None:
    assert parse_endpoint("http://[::1]:4317/", is_grpc=True).authority == "[::1]:4317"
    with pytest.raises(AgentError, match="gRPC has no path"):
        parse_endpoint("http://host:4317/v1/traces", is_grpc=True)


def test_every_signal_of_otlp_has_a_path_and_a_method() -> None:
    endpoint = parse_endpoint("http://host", is_grpc=False)
    assert {endpoint.path(signal) for signal in SIGNALS} == {
        *("/v1/traces", "/v1/metrics", "/v1/logs", "/v1development/profiles")
    }
    assert method(Signal.LOGS) == "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    assert Signal.ERRORS not in SIGNALS
