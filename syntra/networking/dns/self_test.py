"""Tests whether a project's containers reach the name server: the host's firewall may drop their packets.

The test query is sent from a running container's own network namespace, so it passes the same firewall rules.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct

from syntra.networking.dns.zone import Address, labels_of
from syntra.networking.namespaces import udp_socket_of

ANSWER_SECS = 1.0
ATTEMPTS = 2
_ANSWER_BYTES = 4096
_RECURSION_DESIRED, _IS_ANSWER = 0x0100, 0x8000
_SOA, _IN = 6, 1


async def reaches(pid: int, address: Address, port: int, *, project: str, domain: str = "internal") -> bool:
    """Query the server at `address` for the project's SOA from the namespace of process `pid`; True if it answers.

    Takes at most ATTEMPTS times ANSWER_SECS. Raises PermissionError when this process may not enter namespaces, and
    another OSError when that process has ended or has no route to the server (IPv6 without an IPv6 address, say).
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with await asyncio.to_thread(udp_socket_of, pid, family) as asking:
        asking.connect((str(address), port))
        for _ in range(ATTEMPTS):
            if await _answered(asking, f"{project}.{domain}"):
                return True
    return False


async def _answered(asking: socket.socket, name: str) -> bool:
    loop = asyncio.get_running_loop()
    identity = secrets.randbits(16)
    try:
        async with asyncio.timeout(ANSWER_SECS):
            await loop.sock_sendall(asking, _query(name, identity))
            while True:
                wire = await loop.sock_recv(asking, _ANSWER_BYTES)
                if len(wire) >= 4 and struct.unpack("!HH", wire[:4])[0] == identity and wire[2] & _IS_ANSWER >> 8:
                    return True
    except OSError:
        # A deadline, or the rejection of a firewall.
        return False


def _query(name: str, identity: int) -> bytes:
    """A query with one question, without EDNS (RFC 1035 §4.1)."""
    header = struct.pack("!HHHHHH", identity, _RECURSION_DESIRED, 1, 0, 0, 0)
    labels = b"".join(bytes([len(label)]) + label for label in labels_of(name))
    return header + labels + b"\0" + struct.pack("!HH", _SOA, _IN)
