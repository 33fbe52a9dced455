"""Reports the service's state to systemd: sd_notify(3) datagrams, without libsystemd.

Every message is best effort: outside systemd, or when the manager does not accept it, nothing happens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_STATUS_LIMIT = 500  # systemctl shows one line; a datagram that is too long would be lost completely


class Notifier:
    """Sends state to the service manager. Each method returns whether the manager's socket accepted the message.

    If `ready` returns False under systemd (the socket's queue was full), retry it; the other messages may be lost.
    """

    def __init__(self, address: str | None, *, watchdog_secs: float | None = None) -> None:
        """`address` as in NOTIFY_SOCKET: an absolute path, or `@name` for an abstract socket; None sends nothing."""
        self._address = _socket_address(address)
        self.watchdog_secs = watchdog_secs if self._address is not None else None
        """The manager kills the service after this many seconds without `watchdog()`; None without a watchdog."""

    @classmethod
    def take(cls, environ: MutableMapping[str, str] | None = None, *, pid: int | None = None) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and remove them from the environment.

        With NotifyAccess=all every child that inherits them could send messages for the service. WATCHDOG_PID names the
        process that systemd started. With any other pid, the watchdog is meant for another process.
        """
        environ = os.environ if environ is None else environ
        pid = os.getpid() if pid is None else pid
        address = environ.pop("NOTIFY_SOCKET", None)
        usec = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", "")
        mine = watched in ("", str(pid))
        microseconds = int(usec) if usec.isascii() and usec.isdigit() else 0
        return cls(address, watchdog_secs=microseconds / 1_000_000 if mine and microseconds else None)

    @property
    def active(self) -> bool:
        """Whether a service manager receives the messages."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """The service has started (or finished its reload)."""
        return self._send("READY=1", status)

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._send("", text)

    def stopping(self, status: str = "") -> bool:
        """The service is shutting down."""
        return self._send("STOPPING=1", status)

    def watchdog(self) -> bool:
        """The service is alive. Send this every third of `watchdog_secs`."""
        return self._send("WATCHDOG=1")

    def _send(self, state: str, status: str = "") -> bool:
        if self._address is None:
            return False
        # A line break in the status would start another assignment.
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
    """The address for sendto; None for anything but a path or an abstract name (such as vsock:)."""
    if not address or address[0] not in "/@" or len(address) < 2 or "\0" in address:
        return None
    return "\0" + address[1:] if address[0] == "@" else address
