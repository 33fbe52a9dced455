"""Open connections as the real kernel lists them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from syntra.networking.connections import open_connections, open_connections_to
from tests.networking.samples import endpoint


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_connection_counts_from_its_opening_to_its_end(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        at = [endpoint(address, port)]
        assert open_connections_to(at) == 0
        with socket.create_connection((address, port)):
            served, _ = listener.accept()
            with served:
                assert open_connections_to(at) == open_connections_to(at, pid=os.getpid()) == 1
                assert open_connections_to([endpoint(address, port), endpoint("10.9.8.7", 1)]) == 1
        assert open_connections_to(at) == 0


def test_what_a_container_asks_of_itself_is_not_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert open_connections(os.getpid(), port) == 0


def test_nobody_knows_of_a_process_that_is_not_there() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert open_connections(ended.pid, 80) is None
    assert open_connections(None, 80) is None
    assert open_connections(0, 80) is None
    assert open_connections_to([endpoint()], pid=ended.pid) is None
