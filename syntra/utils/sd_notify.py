"""Telling systemd how the service is: the sd_notify(3) datagrams, without libsystemd.

Every message is best effort: outside systemd, and when the manager does not take it, nothing happens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_STATUS_LIMIT = 500  # systemctl shows one line; a datagram that is too long would be lost whole


class Notifier:
    """Sends state to the service manager. Each method returns whether the manager's socket took the message.

    A False from `ready` under systemd (its queue was full) is worth a retry; the rest may be dropped.
    """

    def __init__(self, address: str | None, *, watchdog_secs: float | None = None) -> None:
        """`address` as in NOTIFY_SOCKET: an absolute path, or `@name` for an abstract socket; None sends nothing."""
        self._address = _socket_address(address)
        self.watchdog_secs = watchdog_secs if self._address is not None else None
        """The manager kills the service after this many seconds without `watchdog()`; None when it does not."""

    @classmethod
    def take(cls, environ: MutableMapping[str, str] | None = None, *, pid: int | None = None) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and remove them from the environment.

        Removed, because with NotifyAccess=all every child that inherits them could speak for the service.
        WATCHDOG_PID names the process systemd started: this one, or the unpacking parent of a onefile binary
        (NUITKA_ONEFILE_PARENT); any other pid means the watchdog is meant for somebody else.
        """
        environ = os.environ if environ is None else environ
        pid = os.getpid() if pid is None else pid
        address = environ.pop("NOTIFY_SOCKET", None)
        usec = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", "")
        mine = watched in ("", str(pid), environ.get("NUITKA_ONEFILE_PARENT"))
        microseconds = int(usec) if usec.isascii() and usec.isdigit() else 0
        return cls(address, watchdog_secs=microseconds / 1_000_000 if mine and microseconds else None)

    @property
    def active(self) -> bool:
        """Whether a service manager listens."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """The service is up (also: the reload is done)."""
        return self._send("READY=1", status)

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", text)

    def stopping(self, status: str = "") -> bool:
        """The service is on its way down."""
        return self._send("STOPPING=1", status)

    def watchdog(self) -> bool:
        """The service is alive; send every third of `watchdog_secs`."""
        return self._send("WATCHDOG=1")

    def _send(self, state: str, status: str = "") -> bool:
        if self._address is None:
            return False
        # A line break in a status would begin another assignment.
        line = " ".join(status.split())[:_STATUS_LIMIT]
        lines = [part for part in (state, f"STATUS={line}" if line else "") if part]
        if not lines:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError:
            return False
        return True


def _socket_address(address: str | None) -> str | None:
    """The address for sendto; None for what is neither a path nor an abstract name (such as vsock:)."""
    if not address or address[0] not in "/@" or len(address) < 2 or "\0" in address:
        return None
    return "\0" + address[1:] if address[0] == "@" else address
