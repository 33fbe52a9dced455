"""The host's resolvers, read as the C library reads them, and what containers are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.network import ContainerDns
from syntra.networking.dns import resolv_conf
from syntra.networking.dns.errors import InvalidUpstream
from syntra.networking.dns.resolv_conf import container_dns, host_upstreams, parse
from syntra.networking.dns.upstream import Upstream, parse_upstream

STUB = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"
REAL = "nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"


def test_a_file_is_read() -> None:
    found = parse(
        "; c\n domain old.lan\nsearch a.lan b.lan # x\nnameserver\t192.0.2.1 ;y\noptions ndots:2\noptions rotate\n"
    )
    assert found.nameservers == (Upstream(address="192.0.2.1"),)
    assert found.search == ("a.lan", "b.lan")
    assert found.options == ("ndots:2", "rotate")


def test_three_different_nameservers_count() -> None:
    text = "".join(f"nameserver 192.0.2.{last}\n" for last in (1, 1, 2, 3, 4))
    assert [upstream.address for upstream in parse(text).nameservers] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


@pytest.mark.parametrize(
    "line", ["nameserver", "nameserver dns.example", "nameserver 192.0.2.1:53", "nameserver [::1]", "x"]
)
def test_a_line_that_names_no_address_is_left_out(line: str) -> None:
    assert parse(line).nameservers == ()


def test_loopback_stubs_and_link_local_resolvers_are_the_hosts_upstreams() -> None:
    assert host_upstreams(STUB) == (Upstream(address="127.0.0.53"),)
    assert Upstream(address="fe80::1%eth0") in host_upstreams(REAL)


def test_without_a_nameserver_it_is_the_hosts_own() -> None:
    assert host_upstreams("search lan\n") == (Upstream(address="127.0.0.1"),)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert len(parse(text).nameservers) <= resolv_conf.MOST
    assert host_upstreams(text)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        (" 192.0.2.1:5353 ", "192.0.2.1", 5353),
        ("2001:DB8:0::1", "2001:db8::1", 53),
        ("[::1]", "::1", 53),
        ("[::1]:5353", "::1", 5353),
        ("fe80::1%eth0", "fe80::1%eth0", 53),
    ],
)
def test_an_upstream_is_an_address_and_perhaps_a_port(text: str, address: str, port: int) -> None:
    assert parse_upstream(text) == Upstream(address=address, port=port)
    assert parse_upstream(str(parse_upstream(text))) == parse_upstream(text)


@pytest.mark.parametrize(
    "text",
    ["", "dns.example", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:¹", "[::1", "[::1]53", "1.2.3"],
)
def test_what_is_no_address_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(InvalidUpstream, match="cannot use upstream") as caught:
        parse_upstream(text)
    assert repr(text) in str(caught.value)


def test_a_container_asks_the_gateway_and_then_what_it_can_reach_itself() -> None:
    told = container_dns(gateway="172.18.0.1", project="Shop", host_files=[STUB, REAL])
    assert told == ContainerDns(
        servers=("172.18.0.1", "192.0.2.1", "192.0.2.2"), search=("shop.internal",), options=("ndots:1",)
    )


def test_configured_upstreams_come_before_the_hosts_files() -> None:
    told = container_dns(
        gateway="172.18.0.1", project="shop", host_files=[REAL], configured=["198.51.100.1:5353", "198.51.100.2"]
    )
    assert told.servers == ("172.18.0.1", "198.51.100.2")


def test_a_host_without_reachable_resolvers_leaves_the_gateway_alone() -> None:
    told = container_dns(gateway="172.18.0.1", project="shop", host_files=[STUB, "", "nameserver 172.18.0.1"])
    assert told.servers == ("172.18.0.1",)
