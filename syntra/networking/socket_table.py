"""TCP sockets as the kernel lists them in /proc/<pid>/net/tcp and tcp6, and which of them are open connections. Pure.

A list is that of one network namespace: in the container's own, its port is the local side of its connections; in the
proxy's, its address and port are the remote side.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# include/net/tcp_states.h. A connection in one of these may still carry a request or its answer: being opened, open, or
# closed by one side only. The others listen, wait for stray packets, or have nothing left to send.
_ESTABLISHED, _SYN_SENT, _SYN_RECV, _FIN_WAIT1, _CLOSE_WAIT, _LAST_ACK, _CLOSING = 1, 2, 3, 4, 8, 9, 11
_OPEN = frozenset({_ESTABLISHED, _SYN_SENT, _SYN_RECV, _FIN_WAIT1, _CLOSE_WAIT, _LAST_ACK, _CLOSING})


@dataclass(frozen=True, slots=True)
class Socket:
    """Both ends of one TCP socket as (address, port), and its state's number. IPv4 inside IPv6 is spelt as IPv4."""

    local: tuple[str, int]
    remote: tuple[str, int]
    state: int


def parse(text: str, *, order: str = sys.byteorder) -> Iterator[Socket]:
    """The sockets of one list; the header and lines that are not whole are passed over.

    `order`: the kernel prints addresses as words of the machine's byte order (proc(5)).
    """
    for line in text.splitlines():
        fields = line.split(maxsplit=4)
        if len(fields) < 5 or not fields[0].endswith(":"):
            continue
        try:
            yield Socket(_end(fields[1], order), _end(fields[2], order), int(fields[3], 16))
        except ValueError:
            continue


def serving(sockets: Iterable[Socket], port: int) -> int:
    """How many clients from elsewhere have something open at a port, in a list of the server's own namespace."""
    return sum(
        socket.local[1] == port and socket.state in _OPEN and not ipaddress.ip_address(socket.remote[0]).is_loopback
        for socket in sockets
    )


def _end(text: str, order: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    if len(raw) not in (4, 16) or len(port) != 4:
        raise ValueError("not an address of /proc/net")
    count = len(raw) // 4
    words = struct.unpack(f">{count}I", raw)
    packed = struct.pack(f"{'<' if order == 'little' else '>'}{count}I", *words)
    found = ipaddress.ip_address(packed)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped), int(port, 16)
    return str(found), int(port, 16)
