"""Binds the sockets of one address: UDP and TCP on the same port, or an error that names the port's user."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

from syntra.networking.dns.errors import BindFailed
from syntra.networking.dns.zone import Address
from syntra.utils.frozen import frozen

_BACKLOG = 128
_ATTEMPTS = 16
_WILDCARDS = ("0.0.0.0", "::")


@frozen
class Sockets:
    """A bound, non-blocking pair. The caller closes it."""

    udp: socket.socket
    tcp: socket.socket
    port: int

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.tcp.close()


def bind(address: Address, port: int) -> Sockets:
    """Bind UDP and TCP; port 0 picks one that is free for both. Raises BindFailed.

    Blocks for some milliseconds to find the process that uses the port: call it in a thread.
    """
    for left in reversed(range(_ATTEMPTS)):
        udp = _bound(address, port, socket.SOCK_DGRAM)
        number = int(udp.getsockname()[1])
        try:
            tcp = _bound(address, number, socket.SOCK_STREAM)
        except BindFailed:
            udp.close()
            if port or not left:
                raise
            continue
        return Sockets(udp=udp, tcp=tcp, port=number)
    raise AssertionError("cannot happen because the last attempt returns or raises")


def _bound(address: Address, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # For lingering connections of an earlier run. With UDP it would let two servers share the port unnoticed.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(address), port))
        if kind == socket.SOCK_STREAM:
            made.listen(_BACKLOG)
    except OSError as exc:
        made.close()
        raise _bind_failed(address, port, kind, exc) from exc
    return made


def _bind_failed(address: Address, port: int, kind: socket.SocketKind, exc: OSError) -> BindFailed:
    transport = "udp" if kind == socket.SOCK_DGRAM else "tcp"
    holder = ""
    reason = os.strerror(exc.errno).lower() if exc.errno else str(exc)
    match exc.errno:
        case errno.EADDRINUSE:
            holder = _holder(address, port, transport)
            reason = f"{holder or 'another process, often systemd-resolved, dnsmasq or named,'} has it"
            advice = 'make it leave this address alone, or set networking.dns.mode to "docker-alias"'
        case errno.EACCES | errno.EPERM:
            advice = "give the agent CAP_NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            advice = "look whether the network's bridge is up: no interface has this address"
        case _:
            advice = 'set networking.dns.mode to "docker-alias" when this stays'
    return BindFailed(address=str(address), port=port, transport=transport, reason=reason, holder=holder, advice=advice)


def _holder(address: Address, port: int, transport: str) -> str:
    """Name and pid of the process that uses the port; "" when this user cannot see it."""
    import psutil

    taken = (str(address), *_WILDCARDS)
    try:
        pids: Iterable[int | None] = [
            entry.pid
            for entry in psutil.net_connections(transport)
            if entry.laddr and entry.laddr.ip in taken and entry.laddr.port == port and not entry.raddr
        ]
        pid = next((pid for pid in pids if pid), None)
        return "" if pid is None else f"{psutil.Process(pid).name()} (pid {pid})"
    except (psutil.Error, OSError):
        return ""
