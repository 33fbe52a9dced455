"""Whether a port is free, and who has it, asked of the kernel."""

from __future__ import annotations

import os
import socket

import pytest

from syntra.networking.port_check import obstacle
from syntra.networking.traefik_static import Listener
from tests.networking.real_traefik import free_ports


def listener(host: str, port: int) -> Listener:
    return Listener(name="web", host=host, port=port)


@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_free_port_is_free_and_stays_so(host: str) -> None:
    [port] = free_ports(1)
    assert obstacle(listener(host, port)) is None
    assert obstacle(listener(host, port)) is None


@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0"])
def test_a_listener_is_named(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        found = obstacle(listener(host, held.getsockname()[1]))
    assert found is not None
    assert found.endswith(f"(pid {os.getpid()}) has it")


def test_another_address_is_another_place() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        assert obstacle(listener("127.0.0.2", held.getsockname()[1])) is None


def test_what_an_earlier_connection_left_is_no_obstacle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = held.accept()
        # The side that closes first is left in TIME_WAIT.
        served.close()
        client.close()
    assert obstacle(listener("127.0.0.1", port)) is None


def test_an_address_of_no_interface_is_said() -> None:
    # RFC 5737: for documentation only.
    assert obstacle(listener("192.0.2.1", 80)) == "no interface of this machine has that address"
