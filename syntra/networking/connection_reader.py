"""How many connections to a replica are open, read from the kernel: no proxy tells it per server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

from syntra.networking.connections import open_at, parse
from syntra.networking.routes import Endpoint


async def open_connections(endpoints: Collection[Endpoint], *, pid: int | None = None) -> int | None:
    """Open connections to the endpoints in the network namespace of a process; None when it cannot be read.

    `pid` is the proxy's, or that of a process in the endpoint's container (every client counts then, not only the
    proxy); None is the agent's own namespace, which is right for a proxy on the host. Idle connections that are kept
    for reuse count too: `traefik.configuration` makes the proxy close them after a second. Safe to cancel.
    """
    return await asyncio.to_thread(_count, tuple(endpoints), os.getpid() if pid is None else pid)


def _count(endpoints: tuple[Endpoint, ...], pid: int) -> int | None:
    found = 0
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
        found += open_at(parse(text), endpoints)
    return found if readable else None
