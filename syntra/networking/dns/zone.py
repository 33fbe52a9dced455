"""The names of ready replicas, as each project sees them. Pure.

A container sees only its own project; the network from which a query comes tells which. Names are tuples of lower-case
labels as bytes, without the root: on the wire a label may contain any byte, including dots.

For service `web` of project `shop` with port 8080 and a ready replica `1`:

    web.shop.internal, web                      A, AAAA of every ready replica
    its internal_hostname, and, when that is
      one label, below shop.internal as well    the same, unless a service has that name
    1.web.shop.internal                         A, AAAA of that replica
    _8080._tcp.web.shop.internal                SRV, one for each ready replica
    the replica's address under arpa            PTR to 1.web.shop.internal

Names below a project's `PROJECT.internal` and addresses of the given networks are answered here and never forwarded.
Other names below `internal` are forwarded: some clouds use it (`metadata.google.internal`).
"""

from __future__ import annotations

import enum
import ipaddress
import math
import re
from collections.abc import Iterable, Mapping

from syntra.utils.frozen import frozen

Labels = tuple[bytes, ...]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RecordType(enum.Enum):
    """The types that have records here; any other type of an existing name is NODATA."""

    A = "A"
    AAAA = "AAAA"
    SRV = "SRV"
    PTR = "PTR"


@frozen
class AddressRecord:
    """A or AAAA."""

    address: Address


@frozen
class ServiceRecord:
    """SRV (RFC 2782); priority and weight are 0, as all replicas are equal."""

    port: int
    target: Labels


@frozen
class PointerRecord:
    """PTR."""

    target: Labels


Record = AddressRecord | ServiceRecord | PointerRecord


class Outcome(enum.Enum):
    """The result of a lookup."""

    FOUND = "found"
    NO_DATA = "no data"
    """The name exists, without records of this type (RFC 2308 §2.2)."""
    NO_NAME = "no name"
    NOT_LOADED = "not loaded"
    """The name belongs to the zone, but the services are not known yet."""
    UPSTREAM = "upstream"
    """The name does not belong to the zone: forward it."""


@frozen
class Lookup:
    """`authority` owns the SOA record of a negative answer: the name itself or one above it."""

    outcome: Outcome
    records: tuple[Record, ...] = ()
    authority: Labels = ()


@frozen
class Replica:
    """A ready replica. `label` is unique in its service; `addresses` are on the project's network."""

    label: str
    addresses: tuple[Address, ...]


@frozen
class Service:
    """An existing service. `replicas` are the ready ones, maybe none; `hostname` is the spec's internal_hostname."""

    project: str
    name: str
    hostname: str | None = None
    ports: tuple[int, ...] = ()
    replicas: tuple[Replica, ...] = ()


_Types = dict[RecordType, tuple[Record, ...]]
_Names = dict[Labels, _Types]


@frozen
class Zone:
    """The views of all projects. Created by `build`; immutable, so a server replaces it as a whole."""

    networks: Mapping[Network, str]
    loaded: bool
    ttl: int
    """Seconds for which an answer may be cached."""
    domain: Labels
    _apexes: frozenset[Labels]
    _views: Mapping[str, _Names]

    def project_of(self, source: Address) -> str | None:
        """The project whose containers have this address; None: do not answer."""
        network = _containing(self.networks, source)
        return None if network is None else self.networks[network]

    def lookup(self, project: str, name: Labels, kind: RecordType | None) -> Lookup:
        """Look `name` up as `project` sees it. `kind` None means a type that has no records here."""
        name = tuple(label.lower() for label in name)
        if not self.loaded:
            ours = len(name) == 1 or name[-len(self.domain) :] == self.domain or self._reverse_apex(name) is not None
            return Lookup(outcome=Outcome.NOT_LOADED if ours else Outcome.UPSTREAM)
        types = self._views.get(project, {}).get(name)
        authority = self._apex(name) or self._reverse_apex(name)
        if types is None:
            if authority is None:
                return Lookup(outcome=Outcome.UPSTREAM)
            return Lookup(outcome=Outcome.NO_NAME, authority=authority)
        if kind is None or not (records := types.get(kind, ())):
            return Lookup(outcome=Outcome.NO_DATA, authority=authority or name)
        return Lookup(outcome=Outcome.FOUND, records=records)

    def _apex(self, name: Labels) -> Labels | None:
        return next((name[cut:] for cut in range(len(name)) if name[cut:] in self._apexes), None)

    def _reverse_apex(self, name: Labels) -> Labels | None:
        """The zone of the network that contains this name under arpa, at the first label boundary inside it."""
        address = address_of(name)
        network = None if address is None else _containing(self.networks, address)
        if network is None:
            return None
        bits = 8 if network.version == 4 else 4
        return name[-2 - math.ceil(network.prefixlen / bits) :]


def build(
    networks: Mapping[Network, str], services: Iterable[Service] | None, *, ttl: int = 5, domain: str = "internal"
) -> Zone:
    """Build the zone; `services` None means that they are not known yet.

    `networks` maps networks to projects: a query from a network is answered as its project sees names. If networks
    overlap, the narrowest counts. Services whose names are invalid in DNS (RFC 1035 §2.3.4: empty or long labels, long
    names) are left out.
    """
    projects = {*networks.values()}
    views: dict[str, _Names] = {}
    known = tuple(services or ())
    for project in projects | {service.project for service in known}:
        apex = labels_of(f"{project}.{domain}")
        views[project] = _view(apex, [service for service in known if service.project == project])
    return Zone(
        networks=dict(networks),
        loaded=services is not None,
        ttl=ttl,
        domain=labels_of(domain),
        _apexes=frozenset(labels_of(f"{project}.{domain}") for project in views),
        _views=views,
    )


def labels_of(text: str) -> Labels:
    """Split a written name, without escapes; a final dot is allowed."""
    return tuple(text.lower().encode().removesuffix(b".").split(b"."))


def address_of(name: Labels) -> Address | None:
    """The address that a name below in-addr.arpa (RFC 1035 §3.5) or ip6.arpa (RFC 3596 §2.5) means."""
    *digits, top, arpa = name if len(name) > 2 else (b"", b"", b"")
    text = b".".join(reversed(digits)) if (top, arpa, len(digits)) == (b"in-addr", b"arpa", 4) else b""
    if (top, arpa, len(digits)) == (b"ip6", b"arpa", 32) and all(len(digit) == 1 for digit in digits):
        nibbles = b"".join(reversed(digits))
        text = b":".join(nibbles[start : start + 4] for start in range(0, 32, 4))
    try:
        return ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None


def _view(apex: Labels, services: list[Service]) -> _Names:
    names: _Names = {apex: {}} if _writable(apex) else {}
    for service in services:
        base = labels_of(service.name) + apex
        if _writable(base):
            _add_service(names, base, apex, service)
    own = frozenset(names)
    for service in services:
        for name in _hostnames(service, apex):
            if name not in own and _writable(name):
                _add_addresses(names, name, service.replicas)
    return names


def _add_service(names: _Names, base: Labels, apex: Labels, service: Service) -> None:
    _add_addresses(names, base, service.replicas)
    if len(base) == len(apex) + 1:
        _add_addresses(names, base[:1], service.replicas)
    targets: list[Labels] = []
    for replica in service.replicas:
        target = (_label(replica.label), *base)
        if _writable(target):
            targets.append(target)
            _add_addresses(names, target, (replica,))
            for address in replica.addresses:
                _add(names, labels_of(address.reverse_pointer), RecordType.PTR, (PointerRecord(target=target),))
    for port in service.ports:
        name = (b"_%d" % port, b"_tcp", *base)
        if _writable(name):
            # The name above the port's also exists, without records (RFC 8020).
            names.setdefault(name[1:], {})
            _add(names, name, RecordType.SRV, tuple(ServiceRecord(port=port, target=target) for target in targets))
    for cut in range(1, len(base) - len(apex)):
        names.setdefault(base[cut:], {})


def _hostnames(service: Service, apex: Labels) -> list[Labels]:
    if service.hostname is None:
        return []
    name = labels_of(service.hostname)
    return [name, name + apex] if len(name) == 1 else [name]


def _add_addresses(names: _Names, name: Labels, replicas: Iterable[Replica]) -> None:
    names.setdefault(name, {})
    for replica in replicas:
        for address in replica.addresses:
            kind = RecordType.A if address.version == 4 else RecordType.AAAA
            _add(names, name, kind, (AddressRecord(address=address),))


def _add(names: _Names, name: Labels, kind: RecordType, records: tuple[Record, ...]) -> None:
    types = names.setdefault(name, {})
    before = types.get(kind, ())
    types[kind] = before + tuple(record for record in records if record not in before)


def _label(text: str) -> bytes:
    """A replica's label, made from the runtime's name for it."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-").encode()[:63]


def _writable(name: Labels) -> bool:
    return all(1 <= len(label) <= 63 for label in name) and sum(map(len, name)) + len(name) + 1 <= 255


def _containing(networks: Mapping[Network, str], address: Address) -> Network | None:
    found = [network for network in networks if address in network]
    return max(found, key=lambda network: network.prefixlen, default=None)
