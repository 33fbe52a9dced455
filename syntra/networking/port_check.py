"""Whether a proxy could listen at an address of this machine, and who is there when not."""

from __future__ import annotations

import errno
import os
import socket

from syntra.networking.traefik_static import Listener


def obstacle(listener: Listener) -> str | None:
    """Why nobody could listen there, as the end of a sentence; None when it is free, or when nobody can know.

    Tries it, so it may be free no more a moment later. Blocks for some milliseconds: call it in a thread.
    """
    family = socket.AF_INET if "." in listener.host else socket.AF_INET6
    try:
        probe = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError:
        # A kernel without IPv6, where an empty host means all of IPv4.
        family = socket.AF_INET
        probe = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with probe:
        # As Go's net package sets it: what lingers of an earlier server is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(listener.host))
        try:
            probe.bind((listener.host, listener.port))
            probe.listen(1)
        except OSError as exc:
            match exc.errno:
                case errno.EADDRINUSE:
                    return f"{_holder(listener.port) or 'another process'} has it"
                case errno.EADDRNOTAVAIL:
                    return "no interface of this machine has that address"
                case errno.EACCES | errno.EPERM:
                    # What the agent may not do, the proxy's container still may.
                    return None
                case _:
                    return os.strerror(exc.errno).lower() if exc.errno else str(exc)
    return None


def _holder(port: int) -> str:
    """Name and pid of a process that listens on the port, as far as this user may know; "" otherwise."""
    import psutil

    try:
        for entry in psutil.net_connections("tcp"):
            if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port and entry.pid:
                return f"{psutil.Process(entry.pid).name()} (pid {entry.pid})"
    except (psutil.Error, OSError):
        return ""
    return ""
