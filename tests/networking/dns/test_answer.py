"""Every query gets the answer it deserves, and no bytes do harm."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.networking.dns import answer
from syntra.networking.dns.answer import Answered, Dropped, Query, ToUpstream, Transport
from syntra.networking.dns.zone import Service, Zone
from tests.networking.dns.samples import WEB, query, replica, world

MANY = Service(
    project="shop",
    name="many",
    ports=(80,),
    replicas=tuple(replica(f"{'r' * 50}{last}", f"172.18.1.{last}") for last in range(1, 21)),
)


def decide(
    asked: dns.message.Message | bytes,
    *,
    transport: Transport = Transport.UDP,
    zone: Zone | None = None,
    project: str = "shop",
    seed: int = 1,
) -> Answered | ToUpstream | Dropped:
    wire = asked if isinstance(asked, bytes) else asked.to_wire()
    made = zone or world((WEB, MANY))
    return answer.decide(wire, made, project, transport=transport, rng=random.Random(seed))


def answered(
    asked: dns.message.Message, *, transport: Transport = Transport.UDP, zone: Zone | None = None, seed: int = 1
) -> dns.message.Message:
    done = decide(asked, transport=transport, zone=zone, seed=seed)
    assert isinstance(done, Answered)
    message = dns.message.from_wire(done.wire)
    assert message.id == asked.id
    assert message.flags & dns.flags.QR
    assert dns.rcode.to_text(message.rcode()) == done.rcode
    return message


def texts(message: dns.message.Message) -> list[str]:
    return [str(record) for rrset in message.answer for record in rrset]


def test_addresses_of_a_service() -> None:
    message = answered(query("web.shop.internal"))
    assert sorted(texts(message)) == ["172.18.0.5", "172.18.0.6"]
    assert message.answer[0].ttl == 5
    assert message.flags & dns.flags.AA
    assert message.flags & dns.flags.RA
    assert message.flags & dns.flags.RD
    assert message.edns == -1


@pytest.mark.parametrize("ttl", [0, 60])
def test_the_ttl_is_the_zones(ttl: int) -> None:
    assert answered(query("web.shop.internal"), zone=world(ttl=ttl)).answer[0].ttl == ttl


def test_the_question_comes_back_letter_by_letter() -> None:
    asked = query("wEB.ShOp.iNternal")
    done = decide(asked)
    assert isinstance(done, Answered)
    assert b"\x03wEB\x04ShOp\x08iNternal\x00" in done.wire
    assert done.wire.count(b"iNternal") == 1, "the records point to the question's name"


def test_at_most_eight_records_in_an_order_of_chance() -> None:
    orders = {tuple(texts(answered(query("many"), seed=seed))) for seed in range(20)}
    assert {len(order) for order in orders} == {8}
    assert len(orders) == 20
    assert len({address for order in orders for address in order}) == 20, "nobody is left out for ever"
    assert texts(answered(query("many"), seed=3)) == texts(answered(query("many"), seed=3))


def test_srv_brings_the_addresses_along() -> None:
    message = answered(query("_8080._tcp.web.shop.internal", "SRV"))
    assert sorted(texts(message)) == ["0 0 8080 1.web.shop.internal.", "0 0 8080 2.web.shop.internal."]
    extra = sorted(str(record) for rrset in message.additional for record in rrset)
    assert extra == ["172.18.0.5", "172.18.0.6", "fd00:18::5"]


def test_pointers() -> None:
    assert texts(answered(query("6.0.18.172.in-addr.arpa", "PTR"))) == ["2.web.shop.internal."]


@pytest.mark.parametrize("kind", ["MX", "TXT", "HTTPS", "SVCB", "ANY", "NS", "SOA", "CNAME", "TYPE4711", "SRV"])
def test_types_without_data_are_said_to_have_none(kind: str) -> None:
    message = answered(query("web.shop.internal", kind))
    assert message.rcode() == dns.rcode.NOERROR
    assert not message.answer
    (soa,) = message.authority
    assert (str(soa.name), soa.ttl, soa[0].minimum) == ("shop.internal.", 1, 1)


def test_an_unknown_name_is_denied_for_a_second() -> None:
    message = answered(query("nothing.shop.internal"))
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert message.authority[0][0].minimum == 1
    assert message.flags & dns.flags.AA


def test_before_the_zone_is_loaded_its_names_are_refused() -> None:
    message = answered(query("web.shop.internal"), zone=world(None))
    assert message.rcode() == dns.rcode.REFUSED
    assert not message.flags & dns.flags.AA


def test_other_names_go_to_an_upstream_when_recursion_is_wished_for() -> None:
    assert isinstance(decide(query("example.com")), ToUpstream)
    assert answered(query("example.com", rd=False)).rcode() == dns.rcode.REFUSED


def test_another_projects_names_are_denied() -> None:
    done = decide(query("posts.blog.internal"), zone=world())
    assert isinstance(done, Answered)
    assert done.rcode == "NXDOMAIN"


def test_edns_is_answered_with_our_size_and_the_clients_do_bit() -> None:
    asked = query("web", payload=4096)
    asked.use_edns(0, dns.flags.DO, 4096, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"cookie12")])
    message = answered(asked)
    assert (message.edns, message.payload, message.ednsflags & dns.flags.DO) == (0, 1232, dns.flags.DO)
    assert message.options == ()


def test_an_edns_version_of_the_future_is_answered_with_ours() -> None:
    asked = query("web", payload=4096)
    asked.use_edns(1, 0, 4096)
    message = answered(asked)
    assert (message.rcode(), message.edns) == (dns.rcode.BADVERS, 0)


@pytest.mark.parametrize(("payload", "room"), [(None, 512), (100, 512), (800, 800), (1232, 1232), (65535, 1232)])
def test_udp_answers_keep_to_the_room_there_is(payload: int | None, room: int) -> None:
    done = decide(query("_80._tcp.many.shop.internal", "SRV", payload=payload))
    assert isinstance(done, Answered)
    assert len(done.wire) <= room
    message = dns.message.from_wire(done.wire)
    assert bool(message.flags & dns.flags.TC) == (room < 800)
    assert len(texts(message)) == (0 if room < 800 else 8)


def test_tcp_has_room_for_everything() -> None:
    message = answered(query("_80._tcp.many.shop.internal", "SRV"), transport=Transport.TCP)
    assert not message.flags & dns.flags.TC
    assert len(message.answer[0]) == len(message.additional) == 8


@pytest.mark.parametrize("kind", ["AXFR", "IXFR", "MAILA", "MAILB", "TKEY", "TSIG", "OPT"])
def test_transfers_and_other_requests_are_refused(kind: str) -> None:
    for name in ("web.shop.internal", "example.com"):
        # By hand: the library refuses to make some of them.
        wire = query(name).to_wire()[:-4] + int(dns.rdatatype.from_text(kind)).to_bytes(2, "big") + b"\0\1"
        done = decide(wire)
        assert isinstance(done, Answered)
        assert done.rcode in ("REFUSED", "FORMERR")


@pytest.mark.parametrize("rdclass", ["CH", "HS", "ANY"])
def test_other_classes_are_refused(rdclass: str) -> None:
    assert answered(query("version.bind", "TXT", rdclass=rdclass)).rcode() == dns.rcode.REFUSED


def _status(message: dns.message.Message) -> None:
    message.set_opcode(dns.opcode.STATUS)


def _notify(message: dns.message.Message) -> None:
    message.set_opcode(dns.opcode.NOTIFY)


@pytest.mark.parametrize("change", [_status, _notify])
def test_other_operations_are_not_implemented(change: Callable[[dns.message.Message], None]) -> None:
    asked = query("web")
    change(asked)
    done = decide(asked)
    assert isinstance(done, Answered)
    assert done.rcode == "NOTIMP"
    assert done.wire[:2] == asked.id.to_bytes(2, "big")


def test_updates_are_not_implemented() -> None:
    update = dns.update.UpdateMessage("shop.internal")
    update.add("web", 60, "A", "192.0.2.1")
    done = decide(update)
    assert isinstance(done, Answered)
    assert (done.rcode, dns.message.from_wire(done.wire).opcode()) == ("NOTIMP", dns.opcode.UPDATE)


def test_two_questions_and_none_are_malformed() -> None:
    one, other = query("web"), query("db")
    one.question += other.question
    assert answered(one).rcode() == dns.rcode.FORMERR
    one.question = []
    assert answered(one).rcode() == dns.rcode.FORMERR


def test_answers_are_not_answered() -> None:
    asked = query("web")
    asked.flags |= dns.flags.QR
    assert decide(asked) == Dropped()


def test_a_query_cut_anywhere_is_malformed_or_too_short_to_answer() -> None:
    wire = query("web.shop.internal", payload=1232).to_wire()
    for length in range(len(wire)):
        done = decide(wire[:length])
        if length < 12:
            assert done == Dropped()
        else:
            assert isinstance(done, Answered)
            assert done.rcode == "FORMERR"
    trailing = decide(wire + b"x")
    assert isinstance(trailing, Answered)
    assert trailing.rcode == "FORMERR"


@given(st.binary(max_size=600), st.sampled_from(Transport))
def test_random_bytes_do_no_harm(wire: bytes, transport: Transport) -> None:
    _harmless(wire, transport)


@given(
    st.sampled_from([query("web", payload=1232), query("example.com"), query("_8080._tcp.web.shop.internal", "SRV")]),
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=6),
    st.sampled_from(Transport),
)
def test_damaged_queries_do_no_harm(
    asked: dns.message.Message, damage: list[tuple[int, int]], transport: Transport
) -> None:
    wire = bytearray(asked.to_wire())
    for place, value in damage:
        wire[place % len(wire)] = value
    _harmless(bytes(wire), transport)


@given(st.binary(max_size=100), st.integers(0, 3), st.integers(0, 0xFFFF))
def test_any_body_behind_a_querys_header_does_no_harm(body: bytes, records: int, flags: int) -> None:
    header = b"\x12\x34" + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0" + records.to_bytes(2, "big")
    _harmless(header + body, Transport.UDP)


def _harmless(wire: bytes, transport: Transport) -> None:
    done = decide(wire, transport=transport)
    if isinstance(done, Answered):
        assert dns.message.from_wire(done.wire).id == int.from_bytes(wire[:2], "big")
        assert transport is Transport.TCP or len(done.wire) <= 1232
    if isinstance(done, ToUpstream):
        onward = answer.upstream_query(done.query, 4711).to_wire()
        assert isinstance(decide(onward, transport=transport), ToUpstream)
        assert isinstance(answer.failed(done.query), Answered)


def test_what_goes_on_is_the_question_without_what_is_for_one_hop() -> None:
    asked = query("eXample.com", "MX", payload=4096)
    asked.use_edns(0, dns.flags.DO, 4096, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"cookie12")])
    asked.flags |= dns.flags.CD
    done = decide(asked)
    assert isinstance(done, ToUpstream)
    onward = dns.message.from_wire(answer.upstream_query(done.query, 4711).to_wire())
    assert onward.id == 4711
    assert str(onward.question[0]) == "eXample.com. IN MX"
    assert onward.flags == dns.flags.RD | dns.flags.CD
    assert (onward.payload, onward.ednsflags, onward.options) == (1232, dns.flags.DO, ())


def test_an_upstreams_answer_is_known_by_id_question_and_direction() -> None:
    asked = query("example.com")
    reply = dns.message.make_response(asked)
    assert answer.answers(asked, reply.to_wire()) == dns.rcode.NOERROR
    for other in (
        asked.to_wire(),
        dns.message.make_response(query("example.org")).to_wire(),
        dns.message.make_response(query("example.com", "AAAA")).to_wire(),
        b"",
        b"\xff" * 40,
    ):
        assert answer.answers(asked, other) is None
    reply.id ^= 1
    assert answer.answers(asked, reply.to_wire()) is None


@given(st.binary(max_size=200))
def test_random_answers_do_no_harm(wire: bytes) -> None:
    assert answer.answers(query("example.com"), wire) is None


def test_a_relayed_answer_has_the_clients_id_and_the_upstreams_bytes() -> None:
    asked = Query(message=replace_id(query("example.com"), 1), transport=Transport.UDP)
    reply = dns.message.make_response(replace_id(query("example.com"), 2))
    reply.set_rcode(dns.rcode.NXDOMAIN)
    wire = reply.to_wire()
    assert answer.relayed(asked, wire) == Answered(wire=b"\0\1" + wire[2:], rcode="NXDOMAIN")


def test_a_relayed_answer_that_is_too_big_is_truncated() -> None:
    asked = Query(message=query("example.com", "TXT"), transport=Transport.UDP)
    done = answer.relayed(asked, b"\0" * 513)
    message = dns.message.from_wire(done.wire)
    assert message.flags & dns.flags.TC
    assert answer.relayed(replace(asked, transport=Transport.TCP), b"\0" * 513).wire[2:] == b"\0" * 511


def replace_id(message: dns.message.Message, number: int) -> dns.message.Message:
    message.id = number
    return message
