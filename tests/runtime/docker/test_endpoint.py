"""Engine addresses from the configuration and the environment."""

from __future__ import annotations

import pytest

from syntra.runtime.docker.endpoint import Endpoint, TlsFiles, find_endpoint
from syntra.runtime.docker.errors import BadEndpoint

TLS = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}


@pytest.mark.parametrize(
    ("environ", "configured", "expected"),
    [
        ({}, None, Endpoint(path="/var/run/docker.sock")),
        ({"DOCKER_HOST": ""}, "", Endpoint(path="/var/run/docker.sock")),
        ({"DOCKER_HOST": "unix:///run/a.sock"}, None, Endpoint(path="/run/a.sock")),
        ({"DOCKER_HOST": "unix:///run/a.sock"}, "/run/b.sock", Endpoint(path="/run/b.sock")),
        ({"DOCKER_HOST": "tcp://10.0.0.1"}, None, Endpoint(host="10.0.0.1", port=2375)),
        ({"DOCKER_HOST": "tcp://10.0.0.1:99/"}, None, Endpoint(host="10.0.0.1", port=99)),
        ({"DOCKER_HOST": "tcp://[::1]:99"}, None, Endpoint(host="::1", port=99)),
        ({"DOCKER_HOST": "http://h:80", **TLS}, None, Endpoint(host="h", port=80)),
        ({"DOCKER_HOST": "https://h"}, None, Endpoint(host="h", port=2376, tls=TlsFiles(directory=None))),
        (TLS, "tcp://h", Endpoint(host="h", port=2376, tls=TlsFiles(directory="/certs"))),
        (
            {"DOCKER_TLS_VERIFY": "1", "HOME": "/home/op"},
            "tcp://h",
            Endpoint(host="h", port=2376, tls=TlsFiles(directory="/home/op/.docker")),
        ),
    ],
)
def test_an_address_is_found(environ: dict[str, str], configured: str | None, expected: Endpoint) -> None:
    assert find_endpoint(environ, configured) == expected


@pytest.mark.parametrize(
    "value",
    [
        "docker.sock",
        "unix://relative.sock",
        "unix://",
        "ssh://root@host",
        "npipe:////./pipe/docker",
        "tcp://",
        "tcp://:2375",
        "tcp://h:port",
        "tcp://h:0",
        "tcp://h:99999",
        "tcp://h/path",
        "tcp://h?x=1",
        "tcp://user:secret@h:2375",
        "/run/a\n.sock",
    ],
)
def test_a_bad_address_says_what_to_change(value: str) -> None:
    with pytest.raises(BadEndpoint, match=r"cannot use engine address .*; (set|use) ") as caught:
        find_endpoint({"DOCKER_HOST": value})
    assert "secret" not in str(caught.value)


def test_encryption_without_a_directory_of_certificates_says_so() -> None:
    with pytest.raises(BadEndpoint, match="DOCKER_CERT_PATH"):
        find_endpoint({"DOCKER_HOST": "tcp://h", "DOCKER_TLS_VERIFY": "1"})


def test_an_endpoint_names_itself() -> None:
    assert Endpoint(path="/a.sock").address == "/a.sock"
    assert Endpoint(path="/a.sock").authority == "docker"
    assert Endpoint(host="::1", port=1).address == "[::1]:1"
    assert TlsFiles(directory="/certs").path("ca.pem") == "/certs/ca.pem"
