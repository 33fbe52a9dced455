"""Creates sockets inside the network namespace of another process, such as a container's.

A thread enters the namespace (setns(2)), never the process. The thread creates one socket and ends: a pool's thread
would stay in the namespace for its next caller. The socket stays in its namespace, whichever thread uses it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading

# linux/sched.h. Python has os.setns since 3.12.
_CLONE_NEWNET = 0x40000000


def udp_socket_of(pid: int, family: socket.AddressFamily) -> socket.socket:
    """Create an unconnected, non-blocking UDP socket in the network namespace of process `pid`. The caller closes it.

    Blocks for a millisecond. Raises PermissionError without CAP_SYS_ADMIN, FileNotFoundError when the process has
    ended, and OSError for other errors of the kernel.
    """
    made: list[socket.socket | OSError] = []

    def enter_and_make() -> None:
        try:
            _enter(pid)
            made.append(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        except OSError as refused:
            made.append(refused)

    thread = threading.Thread(target=enter_and_make, name=f"namespace of {pid}", daemon=True)
    thread.start()
    thread.join()
    outcome = made[0]
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def _enter(pid: int) -> None:
    with open(f"/proc/{pid}/ns/net", "rb") as namespace:
        # The symbol of the C library, which musl and glibc both export.
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
