"""Counts the open connections to a replica, from the kernel: Traefik counts them per entrypoint only.

An idle connection that its client keeps for reuse also counts as open. The configuration of `traefik` makes the proxy
close idle connections after a second; other clients may keep theirs for longer.
"""

from __future__ import annotations

from pathlib import Path

from syntra.networking.socket_table import Socket, open_from_outside, parse


def open_connections(pid: int | None, port: int) -> int | None:
    """Count the connections to `port` of a container from outside it. `pid` is any process inside the container.

    None when the count is unknown: no pid, an ended process, or a list that may not be read. Reads two small kernel
    files: blocks for a millisecond, or for about ten with ten thousand sockets.
    """
    sockets = _sockets(pid) if pid else None
    return None if sockets is None else open_from_outside(sockets, port)


def _sockets(pid: int) -> list[Socket] | None:
    found: list[Socket] = []
    readable = False
    for name in ("tcp", "tcp6"):
        try:
            text = Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii")
        except FileNotFoundError:
            # The process has ended, or the kernel has no IPv6.
            continue
        except (OSError, UnicodeDecodeError):
            return None
        readable = True
        found += parse(text)
    return found if readable else None
