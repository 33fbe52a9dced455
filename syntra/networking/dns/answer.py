"""From a query's bytes to what is done about it: an answer of the zone, a refusal, silence, or an upstream's turn.

Chance arrives as an argument and nothing is sent from here. Answers carry the question with the letters as they were
asked (a resolver may have mixed their case to recognise its answer), at most MOST_RECORDS records in random order, and
EDNS only where the query had it (RFC 6891 §6.1.1).
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
"""Bytes that pass every path unfragmented (DNS flag day 2020); ours to receive and the most we send over UDP."""
_PLAIN_PAYLOAD = 512
_IN = dns.rdataclass.IN
# SOA (RFC 1035 §3.3.13): nobody transfers the zone, so only the last figure matters. A name that appears, or becomes
# ready, is not to be missed for longer than that many seconds (RFC 2308 §5).
_SERIAL, _REFRESH, _RETRY, _EXPIRE, _NEGATIVE_TTL = 1, 60, 60, 60, 1
# Types 128 to 255 (RFC 6895 §3.1) ask for zones and sessions rather than data; of them only ANY is served.
_META_TYPES = range(128, 255)
# The constructors of the codec carry no types.
_Make = Callable[..., dns.rdata.Rdata]
_A: _Make = dns.rdtypes.IN.A.A
_AAAA: _Make = dns.rdtypes.IN.AAAA.AAAA
_SRV: _Make = dns.rdtypes.IN.SRV.SRV
_PTR: _Make = dns.rdtypes.ANY.PTR.PTR
_SOA: _Make = dns.rdtypes.ANY.SOA.SOA


class Transport(enum.Enum):
    """How a query came, and how it is asked of an upstream."""

    UDP = "udp"
    TCP = "tcp"


@frozen
class Query:
    """A well-formed query of one question."""

    message: dns.message.Message = field(repr=False)
    transport: Transport

    @property
    def room(self) -> int:
        """The most bytes an answer may have."""
        if self.transport is Transport.TCP:
            return 65_535
        if self.message.edns < 0:
            return _PLAIN_PAYLOAD
        return min(max(self.message.payload, _PLAIN_PAYLOAD), UDP_PAYLOAD)


@frozen
class Answered:
    """Send these bytes. `addresses` are those of replicas that the asker may use from now on."""

    wire: bytes = field(repr=False)
    rcode: str
    addresses: tuple[Address, ...] = ()


@frozen
class Elsewhere:
    """Ask an upstream."""

    query: Query


@frozen
class Dropped:
    """Send nothing: too short to be answered, or an answer itself (two servers would talk for ever)."""


def consider(
    wire: bytes, zone: Zone, project: str, *, transport: Transport, rng: random.Random
) -> Answered | Elsewhere | Dropped:
    """What to do about `wire`, which came from a container of `project`. Never raises, whatever the bytes."""
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
        case Outcome.ELSEWHERE if message.flags & dns.flags.RD:
            return Elsewhere(query=query)
        case Outcome.ELSEWHERE | Outcome.NOT_LOADED:
            return refused(query, dns.rcode.REFUSED)
    response = _response(query)
    response.flags |= dns.flags.AA
    if found.outcome is Outcome.FOUND:
        chosen = rng.sample(found.records, min(MOST_RECORDS, len(found.records)))
        response.answer.append(_rrset(question.name, chosen, zone.ttl))
        response.additional.extend(_addresses(zone, project, chosen))
        return _answered(query, response, addresses=_given(zone, project, chosen))
    response.authority.append(_soa(found.authority))
    if found.outcome is Outcome.NO_NAME:
        response.set_rcode(dns.rcode.NXDOMAIN)
    return _answered(query, response)


def refused(query: Query, rcode: dns.rcode.Rcode) -> Answered:
    """An answer that holds nothing but `rcode`."""
    response = _response(query)
    response.set_rcode(rcode)
    return _answered(query, response)


def failed(query: Query) -> Answered:
    """SERVFAIL: no upstream answered, or too many queries wait for one."""
    return refused(query, dns.rcode.SERVFAIL)


def relayed(query: Query, wire: bytes) -> Answered:
    """An upstream's checked answer, byte for byte but for the id; one that is too big becomes a truncated answer."""
    if len(wire) > query.room:
        response = _response(query)
        response.flags |= dns.flags.TC
        return _answered(query, response)
    # The id is the first two bytes (RFC 1035 §4.1.1). Rendering the message anew could lose what the codec cannot hold.
    rcode = dns.rcode.to_text(dns.rcode.Rcode(wire[3] & 15))
    return Answered(wire=query.message.id.to_bytes(2, "big") + wire[2:], rcode=rcode)


def onward(query: Query, message_id: int) -> dns.message.QueryMessage:
    """The query as it is put to an upstream: the same question and wishes, without options, which are for one hop."""
    asked = query.message
    message = dns.message.QueryMessage(id=message_id)
    message.flags = asked.flags & (dns.flags.RD | dns.flags.AD | dns.flags.CD)
    message.question = list(asked.question)
    if asked.edns >= 0:
        payload = min(max(asked.payload, _PLAIN_PAYLOAD), UDP_PAYLOAD)
        message.use_edns(0, asked.ednsflags & dns.flags.DO, payload)
    return message


def answers(asked: dns.message.Message, wire: bytes) -> dns.rcode.Rcode | None:
    """The code of `wire` when it is an answer to `asked` (id, question, direction); None when it is anything else."""
    answer = _read(wire, question_only=True)
    return answer.rcode() if answer is not None and asked.is_response(answer) else None


def _read(wire: bytes, *, question_only: bool = False) -> dns.message.Message | None:
    """None when the header is not whole. What comes after a mistake is missing; the message remembers the mistake."""
    try:
        return dns.message.from_wire(wire, keyring=False, question_only=question_only, continue_on_error=True)
    except (dns.exception.DNSException, ValueError):
        return None


def _refusal(message: dns.message.Message) -> dns.rcode.Rcode | None:
    """Why the query is not looked up."""
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
    # The order is ours already; the codec's own shuffling would use chance nobody gave it.
    wire = response.to_wire(max_size=query.room, prefer_truncation=True, want_shuffle=False)
    return Answered(wire=wire, rcode=dns.rcode.to_text(response.rcode()), addresses=addresses)


def _given(zone: Zone, project: str, records: Iterable[Record]) -> tuple[Address, ...]:
    """What the records lead to. Who is told a target was told its addresses as well, or asks for them next."""
    given: list[Address] = []
    for record in records:
        match record:
            case AddressRecord(address=address):
                given.append(address)
            case ServiceRecord(target=target):
                for kind in (RecordType.A, RecordType.AAAA):
                    given += _given(zone, project, zone.lookup(project, target, kind).records)
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
    """The addresses of SRV targets, which a client would ask for next (RFC 2782)."""
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
