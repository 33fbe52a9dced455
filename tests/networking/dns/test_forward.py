"""Upstreams that fail, lie and stall, each a real one on loopback."""

from __future__ import annotations

import random
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from syntra.networking.dns.answer import Query, Transport
from syntra.networking.dns.forward import Forwarder, HostUpstreams
from syntra.networking.dns.upstream import Upstream
from tests.networking.dns.samples import query
from tests.networking.dns.served import Reply, resolving, with_record

QUICK = 0.1


def good(asked: dns.message.Message) -> list[bytes]:
    return [with_record(asked).to_wire()]


def silent(asked: dns.message.Message) -> list[bytes]:
    return []


def failing(code: dns.rcode.Rcode) -> Reply:
    def reply(asked: dns.message.Message) -> list[bytes]:
        made = dns.message.make_response(asked)
        made.set_rcode(code)
        return [made.to_wire()]

    return reply


def lying(asked: dns.message.Message) -> list[bytes]:
    """A wrong id, a wrong question, junk, the question itself, and then the truth."""
    wrong_id = with_record(asked, "203.0.113.1")
    wrong_id.id ^= 1
    other = query("example.org")
    other.id = asked.id
    wrong_name = with_record(other, "203.0.113.2")
    return [wrong_id.to_wire(), wrong_name.to_wire(), b"junk", asked.to_wire(), *good(asked)]


def flooding(asked: dns.message.Message) -> list[bytes]:
    return [b"\0" * 12] * 20


async def resolve(
    *upstreams: Upstream, transport: Transport = Transport.UDP, name: str = "example.com"
) -> dns.message.Message:
    forwarder = Forwarder(lambda: upstreams, rng=random.SystemRandom(), timeout_secs=QUICK)
    asked = Query(message=query(name), transport=transport)
    done = await forwarder.resolve(asked)
    message = dns.message.from_wire(done.wire)
    assert message.id == asked.message.id
    return message


@pytest.mark.parametrize("transport", Transport)
async def test_the_first_upstream_answers(transport: Transport) -> None:
    async with resolving(good) as first, resolving(good) as second:
        message = await resolve(first.upstream, second.upstream, transport=transport)
        assert str(message.answer[0][0]) == "192.0.2.7"
        assert (len(first.asked), len(second.asked)) == (1, 0)


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("bad", [silent, failing(dns.rcode.SERVFAIL), failing(dns.rcode.REFUSED), flooding])
async def test_the_next_upstream_is_asked_after_a_failure(bad: Reply, transport: Transport) -> None:
    async with resolving(bad) as first, resolving(good) as second:
        message = await resolve(first.upstream, second.upstream, transport=transport)
        assert message.rcode() == dns.rcode.NOERROR
        assert [way for way, _, _ in (*first.asked, *second.asked)] == [transport.value] * 2


@pytest.mark.parametrize("transport", Transport)
async def test_a_closed_port_costs_no_time(transport: Transport) -> None:
    async with resolving(good) as gone:
        pass
    async with resolving(good) as second:
        assert (await resolve(gone.upstream, second.upstream, transport=transport)).answer


@pytest.mark.parametrize("code", [dns.rcode.NXDOMAIN, dns.rcode.NOTIMP])
async def test_an_answer_that_is_no_failure_is_final(code: dns.rcode.Rcode) -> None:
    async with resolving(failing(code)) as first, resolving(good) as second:
        assert (await resolve(first.upstream, second.upstream)).rcode() == code
        assert not second.asked


async def test_answers_to_other_questions_are_passed_over() -> None:
    async with resolving(lying) as upstream:
        assert str((await resolve(upstream.upstream)).answer[0][0]) == "192.0.2.7"


async def test_over_tcp_an_answer_to_another_question_is_a_failure() -> None:
    async with resolving(lying) as first, resolving(good) as second:
        message = await resolve(first.upstream, second.upstream, transport=Transport.TCP)
        assert str(message.answer[0][0]) == "192.0.2.7"
        assert len(second.asked) == 1


@pytest.mark.parametrize("bad", [silent, failing(dns.rcode.SERVFAIL)])
async def test_when_all_fail_the_client_is_told(bad: Reply) -> None:
    async with resolving(bad) as first, resolving(bad) as second:
        assert (await resolve(first.upstream, second.upstream)).rcode() == dns.rcode.SERVFAIL
        assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_without_upstreams_the_client_is_told() -> None:
    assert (await resolve()).rcode() == dns.rcode.SERVFAIL


async def test_ids_and_ports_are_not_to_be_guessed() -> None:
    async with resolving(good) as upstream:
        for _ in range(30):
            await resolve(upstream.upstream)
        ids = {message.id for _, message, _ in upstream.asked}
        ports = {port for _, _, port in upstream.asked}
        assert len(ids) >= 28
        assert len(ports) >= 25


async def test_an_upstream_that_was_silent_is_asked_last_for_a_while() -> None:
    async with resolving(silent) as first, resolving(good) as second:
        upstreams = [first.upstream, second.upstream]
        forwarder = Forwarder(lambda: upstreams, rng=random.SystemRandom(), timeout_secs=QUICK)
        for _ in range(5):
            assert (
                await forwarder.resolve(Query(message=query("a.example"), transport=Transport.UDP))
            ).rcode == "NOERROR"
        assert (len(first.asked), len(second.asked)) == (1, 5)


async def test_a_silent_upstream_that_is_the_only_one_is_asked_again() -> None:
    replies = [silent, good]
    async with resolving(lambda asked: replies.pop(0)(asked)) as upstream:
        forwarder = Forwarder(lambda: [upstream.upstream], rng=random.SystemRandom(), timeout_secs=QUICK)
        asked = Query(message=query("a.example"), transport=Transport.UDP)
        assert [(await forwarder.resolve(asked)).rcode for _ in range(2)] == ["SERVFAIL", "NOERROR"]


async def test_the_hosts_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\n")
    upstreams = HostUpstreams(str(file))
    assert upstreams() == (Upstream(address="192.0.2.1"),)
    file.write_text("nameserver 192.0.2.22\n")
    assert upstreams() == (Upstream(address="192.0.2.1"),), "it is not looked at with every query"
    upstreams._looked = float("-inf")
    assert upstreams() == (Upstream(address="192.0.2.22"),)
    file.unlink()
    upstreams._looked = float("-inf")
    assert upstreams() == (Upstream(address="192.0.2.22"),), "the last ones stay"
