"""The server over real sockets: whom it answers, how much, and how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from syntra.networking.dns.settings import DnsSettings
from syntra.networking.dns.upstream import Upstream
from tests.house import rules
from tests.networking.dns.samples import query
from tests.networking.dns.served import ADDRESS, ask_tcp, ask_udp, loopback_zone, resolving, serving, web, with_record

SETTINGS = DnsSettings(port=0)
PACKAGE = Path(__file__).resolve().parents[3] / "syntra/networking/dns"


async def udp(port: int, message: dns.message.Message, **kw: float) -> dns.message.Message:
    return dns.message.from_wire(await ask_udp(ADDRESS, port, message.to_wire(), **kw))  # type: ignore[arg-type]  # times only


def texts(message: dns.message.Message) -> list[str]:
    return sorted(str(record) for rrset in message.answer for record in rrset)


async def test_both_transports_answer_on_one_port() -> None:
    async with serving(loopback_zone(web(1, 2))) as (server, port):
        assert texts(await udp(port, query("web"))) == ["127.1.0.1", "127.1.0.2"]
        asked = [query("web").to_wire(), query("nothing.shop.internal").to_wire()]
        first, second = map(dns.message.from_wire, await ask_tcp(ADDRESS, port, *asked))
        assert texts(first) == ["127.1.0.1", "127.1.0.2"]
        assert second.rcode() == dns.rcode.NXDOMAIN
        assert server.counts == {"NOERROR": 2, "NXDOMAIN": 1}


async def test_ipv6_answers_too() -> None:
    loopback = ipaddress.ip_address("::1")
    async with serving(loopback_zone(web(1)), address=loopback) as (_, port):
        wire = query("web").to_wire()
        assert texts(dns.message.from_wire(await ask_udp(loopback, port, wire))) == ["127.1.0.1"]
        assert len(await ask_tcp(loopback, port, wire)) == 1


async def test_a_new_zone_counts_from_the_next_query_on() -> None:
    async with serving(loopback_zone(loaded=False)) as (server, port):
        assert (await udp(port, query("web"))).rcode() == dns.rcode.REFUSED
        server.publish(loopback_zone(web(1)))
        assert texts(await udp(port, query("web"))) == ["127.1.0.1"]
        server.publish(loopback_zone(web()))
        assert texts(await udp(port, query("web"))) == []


async def test_sources_outside_the_networks_hear_nothing() -> None:
    inside = replace(loopback_zone(web(1)), networks={ipaddress.ip_network("127.0.9.0/24"): "shop"})
    async with serving(inside) as (server, port):
        with pytest.raises(TimeoutError):
            await ask_udp(ADDRESS, port, query("web").to_wire(), timeout_secs=0.05)
        with contextlib.suppress(ConnectionError):
            assert await ask_tcp(ADDRESS, port, query("web").to_wire()) == []
        assert server.counts == {"dropped.source": 2}
        assert await ask_udp(ADDRESS, port, query("web").to_wire(), source="127.0.9.1")


async def test_before_anything_is_published_nobody_is_answered() -> None:
    async with serving(None) as (_, port):
        with pytest.raises(TimeoutError):
            await ask_udp(ADDRESS, port, query("web").to_wire(), timeout_secs=0.05)


async def test_a_source_that_asks_too_much_hears_nothing_for_a_while() -> None:
    async with serving(loopback_zone(web(1)), settings=replace(SETTINGS, rate=0.01, burst=2)) as (server, port):
        for _ in range(2):
            await udp(port, query("web"))
        with pytest.raises(TimeoutError):
            await ask_udp(ADDRESS, port, query("web").to_wire(), timeout_secs=0.05)
        assert server.counts["dropped.rate"] == 1
        assert await ask_udp(ADDRESS, port, query("web").to_wire(), source="127.0.0.2"), "others are not affected"


async def test_what_is_no_query_is_dropped_and_the_next_one_is_answered() -> None:
    async with serving(loopback_zone(web(1))) as (server, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            for junk in (b"", b"x", os.urandom(11), b"\x00" * 5000, query("web").to_wire()[:2] + b"\x80" + b"\0" * 9):
                sending.sendto(junk, (str(ADDRESS), port))
        assert texts(await udp(port, query("web"))) == ["127.1.0.1"]
        assert server.counts == {"dropped.malformed": 4, "dropped.size": 1, "NOERROR": 1}


async def test_truncated_answers_are_whole_over_tcp() -> None:
    many = replace(web(*range(1, 20)), name="w" * 60)
    asked = query(f"_8080._tcp.{many.name}.shop.internal", "SRV")
    async with serving(loopback_zone(many)) as (_, port):
        short = await udp(port, asked)
        assert short.flags & dns.flags.TC
        assert not texts(short)
        (whole,) = await ask_tcp(ADDRESS, port, asked.to_wire())
        assert len(texts(dns.message.from_wire(whole))) == 8


async def test_a_connection_ends_after_silence_a_late_message_too_many_and_too_big_ones() -> None:
    settings = replace(SETTINGS, idle_secs=0.05, message_secs=0.05, connection_queries=2)
    wire = query("web").to_wire()
    async with serving(loopback_zone(web(1)), settings=settings) as (_, port):
        for sent in (b"", b"\0", b"\0\x40", b"\0\x40abc", b"\xff\xff" + b"x" * 100):
            reader, writer = await asyncio.open_connection(str(ADDRESS), port)
            writer.write(sent)
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        with contextlib.suppress(ConnectionError):
            assert len(await ask_tcp(ADDRESS, port, wire, wire, wire)) == 2


async def test_one_source_has_so_many_connections_and_no_more() -> None:
    async with serving(loopback_zone(web(1)), settings=replace(SETTINGS, connections_per_source=1)) as (_, port):
        _, held = await asyncio.open_connection(str(ADDRESS), port)
        with contextlib.suppress(ConnectionError):
            assert await ask_tcp(ADDRESS, port, query("web").to_wire()) == []
        held.close()
        await held.wait_closed()
        async with asyncio.timeout(5):
            while not await _answered_over_tcp(port):
                await asyncio.sleep(0)


async def _answered_over_tcp(port: int) -> bool:
    try:
        return bool(await ask_tcp(ADDRESS, port, query("web").to_wire()))
    except ConnectionError:
        return False


async def test_other_names_are_forwarded_by_the_transport_they_came_by() -> None:
    async with resolving(lambda asked: [with_record(asked).to_wire()]) as upstream:
        async with serving(loopback_zone(web(1)), upstreams=[upstream.upstream]) as (server, port):
            assert texts(await udp(port, query("eXample.com"))) == ["192.0.2.7"]
            (over_tcp,) = await ask_tcp(ADDRESS, port, query("example.com").to_wire())
            assert texts(dns.message.from_wire(over_tcp)) == ["192.0.2.7"]
            assert server.counts == {"forwarded": 2, "NOERROR": 2}
        assert [transport for transport, _, _ in upstream.asked] == ["udp", "tcp"]


async def test_too_many_forwards_at_once_fail_at_once() -> None:
    async with resolving(lambda asked: []) as upstream:
        settings = replace(SETTINGS, forwards_per_source=1)
        async with (
            serving(loopback_zone(), upstreams=[upstream.upstream], settings=settings) as (_, port),
            asyncio.TaskGroup() as group,
        ):
            waiting = group.create_task(udp(port, query("example.com")), name="waits for an upstream")
            await upstream.heard.wait()
            assert (await udp(port, query("example.org"))).rcode() == dns.rcode.SERVFAIL
            assert not waiting.done()
            waiting.cancel()


async def test_a_server_that_its_host_names_as_resolver_does_not_ask_itself() -> None:
    own: list[Upstream] = []
    async with serving(loopback_zone(), upstreams=own) as (server, port):
        own.append(Upstream(address=str(ADDRESS), port=port))
        assert (await udp(port, query("example.com"))).rcode() == dns.rcode.SERVFAIL
        assert server.counts == {"forwarded": 1, "SERVFAIL": 1}


async def test_an_address_can_be_bound_again_at_once() -> None:
    async with serving(loopback_zone(web(1))) as (server, port):
        server._settings = replace(SETTINGS, port=port)
        for _ in range(5):
            assert await server.listen([]) == ()
            assert await server.listen([ADDRESS]) == ()
            assert texts(await udp(port, query("web"))) == ["127.1.0.1"]


async def test_addresses_come_and_go_and_the_others_are_not_disturbed() -> None:
    other = ipaddress.ip_address("127.0.0.73")
    async with serving(loopback_zone(web(1))) as (server, port):
        assert await server.listen([ADDRESS, other]) == ()
        assert server.endpoints[ADDRESS] == port
        added = server.endpoints[other]
        assert await ask_udp(other, added, query("web").to_wire())
        assert await server.listen([ADDRESS]) == ()
        with pytest.raises(ConnectionRefusedError):
            await ask_udp(other, added, query("web").to_wire())
        with pytest.raises(ConnectionRefusedError):
            await ask_tcp(other, added, query("web").to_wire())
        assert texts(await udp(port, query("web"))) == ["127.1.0.1"]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("host", [str(ADDRESS), "0.0.0.0"])
async def test_a_port_that_is_taken_is_named_with_who_has_it(kind: socket.SocketKind, host: str) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        async with serving(loopback_zone(web(1)), address=ipaddress.ip_address("127.0.0.74")) as (server, free):
            server._settings = replace(SETTINGS, port=port)
            (failure,) = await server.listen([ADDRESS, ipaddress.ip_address("127.0.0.74")])
            assert list(server.endpoints) == [ipaddress.ip_address("127.0.0.74")]
            assert await ask_udp(ipaddress.ip_address("127.0.0.74"), free, query("web").to_wire())
            transport = "udp" if kind == socket.SOCK_DGRAM else "tcp"
            assert (failure.address, failure.port, failure.transport) == (str(ADDRESS), port, transport)
            assert f"(pid {os.getpid()})" in failure.holder
            assert str(failure).startswith(f"cannot bind {ADDRESS} port {port}/{transport}: {failure.holder} has it; ")
        holder.close()
        async with serving(loopback_zone(web(1)), settings=replace(SETTINGS, port=port)) as (_, bound):
            assert bound == port


async def test_an_address_nobody_has_is_said_to_be_one() -> None:
    async with serving(loopback_zone()) as (server, _):
        (failure,) = await server.listen([ADDRESS, ipaddress.ip_address("192.0.2.1")])
        assert "no interface has this address" in str(failure)
        assert failure.holder == ""


async def test_closing_ends_what_waits() -> None:
    async with resolving(lambda asked: []) as upstream:
        async with serving(loopback_zone(), upstreams=[upstream.upstream]) as (_, port):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.sendto(query("example.com").to_wire(), (str(ADDRESS), port))
                await upstream.heard.wait()
            _, held = await asyncio.open_connection(str(ADDRESS), port)
        async with asyncio.timeout(5):
            held.close()
            with contextlib.suppress(ConnectionError):
                await held.wait_closed()


async def test_a_client_in_a_loop_sees_no_failure_while_replicas_change() -> None:
    async with serving(loopback_zone(web(1))) as (server, port):
        seen: set[str] = set()
        for step in range(200):
            if step % 5 == 0:
                # As a deploy does it: the new one is added before the old one goes.
                server.publish(loopback_zone(web(step // 5 + 1, step // 5 + 2)))
            elif step % 5 == 2:
                server.publish(loopback_zone(web(step // 5 + 2)))
            found = texts(await udp(port, query("web.shop.internal")))
            assert found
            seen.update(found)
        assert len(seen) >= 40


def test_the_light_modules_do_not_load_the_codec() -> None:
    program = "; ".join(
        [
            "import sys",
            *(
                f"import syntra.networking.dns.{name}"
                for name in ("zone", "limits", "resolv_conf", "settings", "errors")
            ),
            "print('dns' in sys.modules)",
        ]
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"


@pytest.mark.parametrize("name", ["zone", "limits", "resolv_conf", "upstream", "settings", "errors"])
def test_the_light_modules_are_pure(name: str) -> None:
    assert rules.impurities((PACKAGE / f"{name}.py").read_text()) == []


async def test_it_is_known_when_an_address_was_last_given_out() -> None:
    first, second = ipaddress.ip_address("127.1.0.1"), ipaddress.ip_address("127.1.0.2")
    loop = asyncio.get_running_loop()
    async with serving(loopback_zone(web(1, 2))) as (server, port):
        assert server.last_given([first, second]) is None
        for name, kind in (("nothing", "A"), ("web", "AAAA"), ("1.0.1.127.in-addr.arpa", "PTR")):
            await udp(port, query(name, kind))
        assert server.last_given([first, second]) is None
        before = loop.time()
        await udp(port, query("1.web.shop.internal"))
        given = server.last_given([first, second])
        assert given is not None
        assert before <= given <= loop.time()
        assert server.last_given([second]) is None
        await udp(port, query("_8080._tcp.web.shop.internal", "SRV"))
        assert (server.last_given([second]) or 0) > given, "who knows the target asks for its address next"
        server.publish(loopback_zone())
        assert server.last_given([second]) is not None, "clients remember what the zone has forgotten"
