"""Addresses that a receiver listens on: an IP address, or the path of a unix socket."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from syntra.utils.errors import AgentError

SOCKET_MODE = 0o666
"""As open as a port on loopback: every local process may send."""


class CannotListen(AgentError):
    """The address cannot be listened on now: in use, or not (yet) on this host. Trying again later may help."""

    def __init__(self, address: str, port: int, reason: str) -> None:
        self.address = address
        place = address if is_path(address) else f"{address} port {port}"
        super().__init__(f"cannot listen on {place}: {reason}; stop the other process or change the address")


def is_path(address: str) -> bool:
    """Whether an address is the path of a unix socket."""
    return address.startswith("/")


def family_of(address: str) -> socket.AddressFamily:
    """The address family of an IP address or a path."""
    if is_path(address):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def clear_stale_socket(path: str) -> None:
    """Remove the socket that a killed process left. Raises OSError when another process listens on it."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError("a file that is no socket is in its place")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
    raise OSError("another process listens there")
