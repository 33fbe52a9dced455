"""How many connections to a replica are open, read from the kernel: Traefik counts them per entrypoint only.

An idle connection that its client keeps for reuse looks like an open one. The configuration of `traefik` has the proxy
close those after a second; other clients may keep theirs for longer.
"""

from __future__ import annotations

from pathlib import Path

from syntra.networking.socket_table import Socket, parse, serving


def open_connections(pid: int | None, port: int) -> int | None:
    """Connections open at `port` of a container, from anywhere outside of it; `pid` is that of any process inside.

    None when nobody can know: no pid, a process that ended, a list that may not be read. Reads two small files of the
    kernel's, so it blocks for a millisecond or, with ten thousand sockets, for some ten.
    """
    sockets = _sockets(pid) if pid else None
    return None if sockets is None else serving(sockets, port)


def _sockets(pid: int) -> list[Socket] | None:
    found: list[Socket] = []
    readable = False
    for name in ("tcp", "tcp6"):
        try:
            text = Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii")
        except FileNotFoundError:
            # No such process, or a kernel without IPv6.
            continue
        except (OSError, UnicodeDecodeError):
            return None
        readable = True
        found += parse(text)
    return found if readable else None
