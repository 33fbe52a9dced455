"""Sockets inside the network namespace of another process, as a container has one of its own.

A namespace is entered by a thread (setns(2)), never by the process. The thread makes one socket and ends: a thread of
a pool would take its next caller along. The socket stays in the namespace it was made in, whoever uses it afterwards.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading

# linux/sched.h. Python knows setns from 3.12 on.
_CLONE_NEWNET = 0x40000000


def udp_socket_of(pid: int, family: socket.AddressFamily) -> socket.socket:
    """An unconnected, non-blocking UDP socket in the network namespace of process `pid`; the caller closes it.

    Blocks for a millisecond. Raises PermissionError without CAP_SYS_ADMIN, FileNotFoundError when the process is gone,
    and OSError for whatever else the kernel refuses.
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
        # The C library's own symbol, as musl and glibc both have it.
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
