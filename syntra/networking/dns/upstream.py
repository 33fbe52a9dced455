"""Parses the addresses of upstream resolvers. Pure."""

from __future__ import annotations

import ipaddress

from syntra.networking.dns.errors import InvalidUpstream
from syntra.utils.frozen import frozen


@frozen
class Upstream:
    """A resolver. `address` is a canonical IP literal; a link-local one includes its zone (`fe80::1%eth0`)."""

    address: str
    port: int = 53

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_upstream(text: str) -> Upstream:
    """`ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`; a bare IPv6 address has no port. Raises InvalidUpstream."""
    address, port = text.strip(), "53"
    if address.startswith("["):
        address, closed, rest = address[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise _invalid(text, "it is not [ADDRESS]:PORT")
        port = rest[1:] if rest else port
    elif address.count(":") == 1:
        address, _, port = address.partition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise _invalid(text, "the port is not a number from 1 to 65535")
    try:
        return Upstream(address=str(ipaddress.ip_address(address)), port=int(port))
    except ValueError as exc:
        raise _invalid(text, "it is not an IP address") from exc


def _invalid(text: str, reason: str) -> InvalidUpstream:
    return InvalidUpstream(
        f"cannot use upstream {text[:80]!r}: {reason}; write it as 192.0.2.1, 192.0.2.1:53 or [::1]:53"
    )
