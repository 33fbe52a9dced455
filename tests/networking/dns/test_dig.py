"""Another implementation's view of the server: BIND's dig, over UDP and TCP."""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass, replace

import pytest

from syntra.networking.dns.upstream import Upstream
from tests.engine import missing
from tests.networking.dns.samples import addresses, query
from tests.networking.dns.served import ADDRESS, ask_udp, loopback_zone, resolving, serving, web, with_record

MANY = replace(web(*range(21, 40)), name="w" * 60)
ZONE = loopback_zone(web(1, 2), MANY, replace(web(), name="db"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dug:
    """What dig printed, read from its sections."""

    status: str
    flags: frozenset[str]
    answers: list[str]
    text: str


async def dig(port: int, *words: str) -> Dug:
    program = shutil.which("dig")
    if program is None:
        missing("no dig; install bind9-dnsutils")
        raise AssertionError("cannot happen: `missing` does not return")
    process = await asyncio.create_subprocess_exec(
        *(program, f"@{ADDRESS}", "-p", str(port), "+tries=1", "+time=5", *words), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        printed = (await process.communicate())[0].decode()
    assert "Warning" not in printed, printed
    assert "malformed" not in printed, printed
    header = re.search(r"status: (\w+).*?flags: ([a-z ]*);", printed, re.DOTALL)
    assert header is not None, printed
    section = re.search(r";; ANSWER SECTION:\n(.*?)\n\n", printed, re.DOTALL)
    answers = [line.split(maxsplit=4)[4] for line in section[1].splitlines()] if section else []
    return Dug(status=header[1], flags=frozenset(header[2].split()), answers=sorted(answers), text=printed)


@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
async def test_dig_understands_every_answer_of_the_zone(way: str) -> None:
    async with serving(ZONE) as (_, port):
        a, srv, ptr, mixed, none, other, missing_name = await asyncio.gather(
            dig(port, way, "web.shop.internal"),
            dig(port, way, "SRV", "_8080._tcp.web.shop.internal"),
            dig(port, way, "-x", "127.1.0.2"),
            dig(port, way, "WeB.sHoP.internal"),
            dig(port, way, "AAAA", "web.shop.internal"),
            dig(port, way, "HTTPS", "db.shop.internal"),
            dig(port, way, "nothing.shop.internal"),
        )
    assert (a.status, a.answers) == ("NOERROR", ["127.1.0.1", "127.1.0.2"])
    assert a.flags == {"qr", "aa", "rd", "ra"}
    assert "EDNS: version: 0, flags:; udp: 1232" in a.text
    assert srv.answers == ["0 0 8080 1.web.shop.internal.", "0 0 8080 2.web.shop.internal."]
    assert ptr.answers == ["2.web.shop.internal."]
    assert "WeB.sHoP.internal.\t5\tIN\tA" in mixed.text
    for empty in (none, other):
        assert (empty.status, empty.answers) == ("NOERROR", [])
        assert "SOA" in empty.text
    assert missing_name.status == "NXDOMAIN"
    assert "shop.internal.\t\t1\tIN\tSOA" in missing_name.text


async def test_dig_sees_ipv6_addresses() -> None:
    six = loopback_zone(replace(web(), replicas=(replace(web(1).replicas[0], addresses=addresses("fd00::5")),)))
    async with serving(six) as (_, port):
        assert (await dig(port, "AAAA", "web")).answers == ["fd00::5"]


async def test_dig_sees_the_truncation_and_comes_back_over_tcp() -> None:
    name = f"_8080._tcp.{MANY.name}.shop.internal"
    async with serving(ZONE) as (_, port):
        short = await dig(port, "+ignore", "+noedns", "SRV", name)
        assert "tc" in short.flags
        assert short.answers == []
        again = await dig(port, "+noedns", "SRV", name)
        assert "tc" not in again.flags
        assert len(again.answers) == 8
        assert "(TCP)" in again.text
        big = await dig(port, "+bufsize=4096", "+ignore", "SRV", name)
        assert "tc" not in big.flags
        assert len(big.answers) == 8


async def test_dig_is_told_what_is_refused() -> None:
    async with serving(ZONE) as (_, port):
        assert (await dig(port, "+noedns", "+opcode=status", "web")).status == "NOTIMP"
        assert (await dig(port, "CH", "TXT", "version.bind")).status == "REFUSED"
        assert (await dig(port, "+edns=1", "+noednsneg", "web")).status == "BADVERS"
        assert (await dig(port, "+norecurse", "example.com")).status == "REFUSED"
        assert await ask_udp(ADDRESS, port, query("web").to_wire()), "and it goes on"


async def test_dig_gets_an_upstreams_answer() -> None:
    async with (
        resolving(lambda asked: [with_record(asked).to_wire()]) as upstream,
        serving(ZONE, upstreams=[Upstream(address="127.0.0.1", port=1), upstream.upstream]) as (_, port),
    ):
        for way in ("+notcp", "+tcp"):
            dug = await dig(port, way, "eXample.com")
            assert (dug.status, dug.answers) == ("NOERROR", ["192.0.2.7"])
            assert "aa" not in dug.flags
