"""Checks whether a proxy could listen on an address of this host, and if not, which process does."""

from __future__ import annotations

import errno
import os
import socket

from syntra.networking.traefik_static import Listener


def obstacle(listener: Listener) -> str | None:
    """Why no process could listen there, as the end of a sentence; None when the port is free or this is unknown.

    It tries to bind, so the result may be outdated a moment later. Blocks for some milliseconds: call it in a thread.
    """
    family = socket.AF_INET if "." in listener.host else socket.AF_INET6
    try:
        probe = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError:
        # A kernel without IPv6: an empty host means all IPv4 addresses.
        family = socket.AF_INET
        probe = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with probe:
        # As Go's net package does: lingering connections of an earlier server do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(listener.host))
        try:
            probe.bind((listener.host, listener.port))
            probe.listen(1)
        except OSError as exc:
            match exc.errno:
                case errno.EADDRINUSE:
                    return f"{port_holder(listener.port) or 'another process'} has it"
                case errno.EADDRNOTAVAIL:
                    return "no interface of this machine has that address"
                case errno.EACCES | errno.EPERM:
                    # The proxy's container may have rights that the agent lacks.
                    return None
                case _:
                    return os.strerror(exc.errno).lower() if exc.errno else str(exc)
    return None


def port_holder(port: int) -> str:
    """Name and pid of a process that listens on the port; "" when this user cannot see it."""
    import psutil

    try:
        for entry in psutil.net_connections("tcp"):
            if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port and entry.pid:
                return f"{psutil.Process(entry.pid).name()} (pid {entry.pid})"
    except (psutil.Error, OSError):
        return ""
    return ""
