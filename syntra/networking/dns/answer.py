"""Decides what to do about a query: answer it from the zone, refuse it, drop it, or forward it to an upstream.

Randomness is an argument and this module sends nothing. Answers repeat the question with its upper and lower case (a
resolver may have mixed the case to recognise its answer), at most MOST_RECORDS records in random order, and EDNS only
if the query had it (RFC 6891 §6.1.1).
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterable
from dataclasses import field

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.rrset

from syntra.networking.dns.zone import (
    Address,
    AddressRecord,
    Labels,
    Outcome,
    PointerRecord,
    Record,
    RecordType,
    ServiceRecord,
    Zone,
)
from syntra.utils.frozen import frozen

MOST_RECORDS = 8
UDP_PAYLOAD = 1232
"""The size that passes every path unfragmented (DNS flag day 2020): the limit for UDP in both directions."""
_PLAIN_PAYLOAD = 512
_IN = dns.rdataclass.IN
# SOA (RFC 1035 §3.3.13): no server transfers the zone, so only the last value matters. It limits for how many seconds a
# client may cache that a name does not exist (RFC 2308 §5).
_SERIAL, _REFRESH, _RETRY, _EXPIRE, _NEGATIVE_TTL = 1, 60, 60, 60, 1
# Types 128 to 255 (RFC 6895 §3.1) are for zones and sessions, not data; only ANY is answered.
_META_TYPES = range(128, 255)
# The codec's constructors have no type hints.
_Make = Callable[..., dns.rdata.Rdata]
_A: _Make = dns.rdtypes.IN.A.A
_AAAA: _Make = dns.rdtypes.IN.AAAA.AAAA
_SRV: _Make = dns.rdtypes.IN.SRV.SRV
_PTR: _Make = dns.rdtypes.ANY.PTR.PTR
_SOA: _Make = dns.rdtypes.ANY.SOA.SOA


class Transport(enum.Enum):
    """How a query arrived, and how it is forwarded."""

    UDP = "udp"
    TCP = "tcp"


@frozen
class Query:
    """A well-formed query with one question."""

    message: dns.message.Message = field(repr=False)
    transport: Transport

    @property
    def room(self) -> int:
        """The largest answer in bytes."""
        if self.transport is Transport.TCP:
            return 65_535
        if self.message.edns < 0:
            return _PLAIN_PAYLOAD
        return min(max(self.message.payload, _PLAIN_PAYLOAD), UDP_PAYLOAD)


@frozen
class Answered:
    """Send these bytes. `addresses` are the replica addresses in the answer, which the client may use from now on."""

    wire: bytes = field(repr=False)
    rcode: str
    addresses: tuple[Address, ...] = ()


@frozen
class ToUpstream:
    """Forward the query to an upstream."""

    query: Query


@frozen
class Dropped:
    """Send nothing: the query is too short, or is itself an answer (two servers would answer each other for ever)."""


def decide(
    wire: bytes, zone: Zone, project: str, *, transport: Transport, rng: random.Random
) -> Answered | ToUpstream | Dropped:
    """Decide about `wire`, which came from a container of `project`. Never raises, whatever the bytes."""
    message = _read(wire)
    if message is None or message.flags & dns.flags.QR:
        return Dropped()
    query = Query(message=message, transport=transport)
    if (refusal := _refusal(message)) is not None:
        return refused(query, refusal)
    question = message.question[0]
    labels: Labels = question.name.labels[:-1]
    found = zone.lookup(project, labels, _record_type(question.rdtype))
    match found.outcome:
        case Outcome.UPSTREAM if message.flags & dns.flags.RD:
            return ToUpstream(query=query)
        case Outcome.UPSTREAM | Outcome.NOT_LOADED:
            return refused(query, dns.rcode.REFUSED)
    response = _response(query)
    response.flags |= dns.flags.AA
    if found.outcome is Outcome.FOUND:
        chosen = rng.sample(found.records, min(MOST_RECORDS, len(found.records)))
        response.answer.append(_rrset(question.name, chosen, zone.ttl))
        response.additional.extend(_addresses(zone, project, chosen))
        return _answered(query, response, addresses=_usable_addresses(zone, project, chosen))
    response.authority.append(_soa(found.authority))
    if found.outcome is Outcome.NO_NAME:
        response.set_rcode(dns.rcode.NXDOMAIN)
    return _answered(query, response)


def refused(query: Query, rcode: dns.rcode.Rcode) -> Answered:
    """An answer with only the response code `rcode`."""
    response = _response(query)
    response.set_rcode(rcode)
    return _answered(query, response)


def failed(query: Query) -> Answered:
    """SERVFAIL: no upstream answered, or too many queries are being forwarded."""
    return refused(query, dns.rcode.SERVFAIL)


def relayed(query: Query, wire: bytes) -> Answered:
    """An upstream's checked answer, unchanged except for the id; truncated if it is too large."""
    if len(wire) > query.room:
        response = _response(query)
        response.flags |= dns.flags.TC
        return _answered(query, response)
    # The id is the first two bytes (RFC 1035 §4.1.1). Encoding the message again could lose what the codec cannot hold.
    rcode = dns.rcode.to_text(dns.rcode.Rcode(wire[3] & 15))
    return Answered(wire=query.message.id.to_bytes(2, "big") + wire[2:], rcode=rcode)


def upstream_query(query: Query, message_id: int) -> dns.message.QueryMessage:
    """The query to send to an upstream: the same question and flags, without options, which apply to one hop only."""
    asked = query.message
    message = dns.message.QueryMessage(id=message_id)
    message.flags = asked.flags & (dns.flags.RD | dns.flags.AD | dns.flags.CD)
    message.question = list(asked.question)
    if asked.edns >= 0:
        payload = min(max(asked.payload, _PLAIN_PAYLOAD), UDP_PAYLOAD)
        message.use_edns(0, asked.ednsflags & dns.flags.DO, payload)
    return message


def answers(asked: dns.message.Message, wire: bytes) -> dns.rcode.Rcode | None:
    """The response code of `wire` if it answers `asked` (id, question, direction); None otherwise."""
    answer = _read(wire, question_only=True)
    return answer.rcode() if answer is not None and asked.is_response(answer) else None


def _read(wire: bytes, *, question_only: bool = False) -> dns.message.Message | None:
    """Parse a message; None for an incomplete header. After an error the rest is missing; the message has the error."""
    try:
        return dns.message.from_wire(wire, keyring=False, question_only=question_only, continue_on_error=True)
    except (dns.exception.DNSException, ValueError):
        return None


def _refusal(message: dns.message.Message) -> dns.rcode.Rcode | None:
    """The response code that refuses the query; None if it is looked up."""
    if message.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if message.errors or len(message.question) != 1:
        return dns.rcode.FORMERR
    if message.edns > 0:
        return dns.rcode.BADVERS
    question = message.question[0]
    if question.rdclass != _IN or question.rdtype in _META_TYPES or question.rdtype == dns.rdatatype.OPT:
        return dns.rcode.REFUSED
    return None


def _record_type(kind: dns.rdatatype.RdataType) -> RecordType | None:
    try:
        return RecordType(dns.rdatatype.to_text(kind))
    except ValueError:
        return None


def _response(query: Query) -> dns.message.Message:
    asked = query.message
    response = dns.message.QueryMessage(id=asked.id)
    response.flags = dns.flags.QR | dns.flags.RA | (asked.flags & (dns.flags.RD | dns.flags.CD))
    response.set_opcode(asked.opcode())
    if asked.opcode() == dns.opcode.QUERY:
        response.question = list(asked.question)
    if asked.edns >= 0:
        response.use_edns(0, asked.ednsflags & dns.flags.DO, UDP_PAYLOAD)
    return response


def _answered(query: Query, response: dns.message.Message, *, addresses: tuple[Address, ...] = ()) -> Answered:
    # The records are already in random order; the codec's shuffling would use another source of randomness.
    wire = response.to_wire(max_size=query.room, prefer_truncation=True, want_shuffle=False)
    return Answered(wire=wire, rcode=dns.rcode.to_text(response.rcode()), addresses=addresses)


def _usable_addresses(zone: Zone, project: str, records: Iterable[Record]) -> tuple[Address, ...]:
    """The addresses that the client can use: those in the answer, and those of the SRV targets in it."""
    given: list[Address] = []
    for record in records:
        match record:
            case AddressRecord(address=address):
                given.append(address)
            case ServiceRecord(target=target):
                for kind in (RecordType.A, RecordType.AAAA):
                    given += _usable_addresses(zone, project, zone.lookup(project, target, kind).records)
    return tuple(given)


def _rrset(name: dns.name.Name, records: Iterable[Record], ttl: int) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, ttl, [_rdata(record) for record in records])


def _rdata(record: Record) -> dns.rdata.Rdata:
    match record:
        case AddressRecord(address=address) if address.version == 4:
            return _A(_IN, dns.rdatatype.A, str(address))
        case AddressRecord(address=address):
            return _AAAA(_IN, dns.rdatatype.AAAA, str(address))
        case ServiceRecord(port=port, target=target):
            return _SRV(_IN, dns.rdatatype.SRV, 0, 0, port, _name(target))
        case PointerRecord(target=target):
            return _PTR(_IN, dns.rdatatype.PTR, _name(target))


def _addresses(zone: Zone, project: str, records: Iterable[Record]) -> Iterable[dns.rrset.RRset]:
    """The addresses of SRV targets, which a client would query next (RFC 2782)."""
    for record in records:
        if isinstance(record, ServiceRecord):
            for kind in (RecordType.A, RecordType.AAAA):
                if found := zone.lookup(project, record.target, kind).records:
                    yield _rrset(_name(record.target), found, zone.ttl)


def _soa(owner: Labels) -> dns.rrset.RRset:
    name = _name(owner)
    soa = _SOA(_IN, dns.rdatatype.SOA, name, name, _SERIAL, _REFRESH, _RETRY, _EXPIRE, _NEGATIVE_TTL)
    return dns.rrset.from_rdata(name, _NEGATIVE_TTL, soa)


def _name(labels: Labels) -> dns.name.Name:
    return dns.name.Name((*labels, b""))
