"""Open connections as the real kernel lists them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from syntra.networking.connections import open_connections


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
