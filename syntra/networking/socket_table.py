"""Parses the kernel's TCP socket lists, /proc/<pid>/net/tcp and tcp6, and finds open connections. Pure.

A list covers one network namespace. In the container's namespace, its port is the local side of a connection; in the
proxy's, the container's address and port are the remote side.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# include/net/tcp_states.h. A connection in one of these states may still carry a request or an answer: it is being
# opened, open, or closed by one side only. In the other states it listens or has nothing left to send.
_ESTABLISHED, _SYN_SENT, _SYN_RECV, _FIN_WAIT1, _CLOSE_WAIT, _LAST_ACK, _CLOSING = 1, 2, 3, 4, 8, 9, 11
_OPEN = frozenset({_ESTABLISHED, _SYN_SENT, _SYN_RECV, _FIN_WAIT1, _CLOSE_WAIT, _LAST_ACK, _CLOSING})


@dataclass(frozen=True, slots=True)
class Socket:
    """Both ends of one TCP socket as (address, port), and its state number. IPv4-mapped IPv6 is written as IPv4."""

    local: tuple[str, int]
    remote: tuple[str, int]
    state: int


def parse(text: str, *, order: str = sys.byteorder) -> Iterator[Socket]:
    """The sockets of one list; the header and incomplete lines are skipped.

    `order`: the kernel prints addresses in the machine's byte order (proc(5)).
    """
    for line in text.splitlines():
        fields = line.split(maxsplit=4)
        if len(fields) < 5 or not fields[0].endswith(":"):
            continue
        try:
            yield Socket(_end(fields[1], order), _end(fields[2], order), int(fields[3], 16))
        except ValueError:
            continue


def open_from_outside(sockets: Iterable[Socket], port: int) -> int:
    """Count the open connections to a port from outside, in the list of the server's own namespace."""
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
