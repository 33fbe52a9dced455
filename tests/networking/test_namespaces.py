"""Sockets in the network namespace of another process; and none where that is not allowed."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from syntra.networking.namespaces import udp_socket_of
from tests.engine import missing, wait_until


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A process in a network namespace of its own, where even loopback is down."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("no right to make network namespaces; run as root")
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as process:
        try:
            wait_until(lambda: namespace(process.pid) != namespace(os.getpid()), "a namespace of its own")
            yield process.pid
        finally:
            process.kill()


def namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def test_a_socket_lives_where_the_process_does_and_this_one_stays_where_it_is(elsewhere: int) -> None:
    before = namespace(os.getpid())
    with udp_socket_of(elsewhere, socket.AF_INET) as there, pytest.raises(OSError) as refused:
        there.connect(("127.0.0.1", 53))
    assert refused.value.errno == errno.ENETUNREACH
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.connect(("127.0.0.1", 53))
    assert namespace(os.getpid()) == before
    assert not [thread for thread in threading.enumerate() if "namespace" in thread.name]


def test_it_does_not_block(elsewhere: int) -> None:
    with udp_socket_of(elsewhere, socket.AF_INET6) as there:
        assert there.family == socket.AF_INET6
        with pytest.raises(BlockingIOError):
            there.recv(1)


def test_a_process_that_is_gone_has_no_namespace() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    with pytest.raises(FileNotFoundError):
        udp_socket_of(ended.pid, socket.AF_INET)


def test_without_the_right_it_says_so(elsewhere: int) -> None:
    script = f"""
import os, socket
from syntra.networking.namespaces import udp_socket_of
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for pid in ({elsewhere}, os.getpid()):
    try:
        udp_socket_of(pid, socket.AF_INET)
    except PermissionError as refused:
        print("refused", refused.errno)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    # Of a stranger not even the link may be read; of one's own process it may, and it is entering that is not allowed.
    assert ended.stdout == f"refused {errno.EACCES}\nrefused {errno.EPERM}\n"
