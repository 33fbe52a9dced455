"""The zone says what exists, for whom, and what is somebody else's to answer."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.networking.dns import zone
from syntra.networking.dns.zone import (
    AddressRecord,
    Lookup,
    Outcome,
    PointerRecord,
    RecordType,
    ServiceRecord,
    labels_of,
)
from tests.networking.dns.samples import DB, NETWORKS, POSTS, SERVICES, WEB, addresses, replica, world


def look(name: str, kind: RecordType | None = RecordType.A, project: str = "shop") -> Lookup:
    return world().lookup(project, labels_of(name), kind)


def found(name: str, kind: RecordType = RecordType.A, project: str = "shop") -> list[str]:
    return [str(record.address) for record in look(name, kind, project).records if isinstance(record, AddressRecord)]


@pytest.mark.parametrize("name", ["web.shop.internal", "web", "front", "front.shop.internal", "WEB.Shop.INTERNAL"])
def test_every_name_of_a_service_has_all_ready_replicas(name: str) -> None:
    assert found(name) == ["172.18.0.5", "172.18.0.6"]
    assert found(name, RecordType.AAAA) == ["fd00:18::5"]


def test_a_replica_has_a_name_of_its_own() -> None:
    assert found("2.web.shop.internal") == ["172.18.0.6"]
    assert look("3.web.shop.internal").outcome is Outcome.NO_NAME


def test_srv_names_the_port_and_the_replicas() -> None:
    assert look("_8080._tcp.web.shop.internal", RecordType.SRV).records == (
        ServiceRecord(port=8080, target=labels_of("1.web.shop.internal")),
        ServiceRecord(port=8080, target=labels_of("2.web.shop.internal")),
    )


@pytest.mark.parametrize("address", ["172.18.0.5", "fd00:18::5"])
def test_an_address_points_to_its_replica(address: str) -> None:
    name = ipaddress.ip_address(address).reverse_pointer
    assert look(name, RecordType.PTR).records == (PointerRecord(target=labels_of("1.web.shop.internal")),)


@pytest.mark.parametrize(
    ("name", "kind", "outcome", "authority"),
    [
        ("web.shop.internal", RecordType.SRV, Outcome.NO_DATA, "shop.internal"),
        ("web.shop.internal", None, Outcome.NO_DATA, "shop.internal"),
        ("web", None, Outcome.NO_DATA, "web"),
        ("1.web.shop.internal", RecordType.PTR, Outcome.NO_DATA, "shop.internal"),
        ("2.web.shop.internal", RecordType.AAAA, Outcome.NO_DATA, "shop.internal"),
        ("shop.internal", RecordType.A, Outcome.NO_DATA, "shop.internal"),
        ("_tcp.web.shop.internal", RecordType.SRV, Outcome.NO_DATA, "shop.internal"),
        # Not ready is not the same as not there.
        ("db.shop.internal", RecordType.A, Outcome.NO_DATA, "shop.internal"),
        ("database.corp", RecordType.A, Outcome.NO_DATA, "database.corp"),
        ("_5432._tcp.db.shop.internal", RecordType.SRV, Outcome.NO_DATA, "shop.internal"),
        ("nothing.shop.internal", RecordType.A, Outcome.NO_NAME, "shop.internal"),
        ("_81._tcp.web.shop.internal", RecordType.SRV, Outcome.NO_NAME, "shop.internal"),
        ("9.0.18.172.in-addr.arpa", RecordType.PTR, Outcome.NO_NAME, "18.172.in-addr.arpa"),
        # Another project's names are ours to deny, not an upstream's to answer.
        ("posts.blog.internal", RecordType.A, Outcome.NO_NAME, "blog.internal"),
        ("5.0.19.172.in-addr.arpa", RecordType.PTR, Outcome.NO_NAME, "0.19.172.in-addr.arpa"),
        ("corp", RecordType.A, Outcome.UPSTREAM, ""),
        ("posts", RecordType.A, Outcome.UPSTREAM, ""),
        ("metadata.google.internal", RecordType.A, Outcome.UPSTREAM, ""),
        ("internal", RecordType.A, Outcome.UPSTREAM, ""),
        ("example.com", RecordType.A, Outcome.UPSTREAM, ""),
        ("web.shop.internal.example.com", RecordType.A, Outcome.UPSTREAM, ""),
        ("9.0.20.172.in-addr.arpa", RecordType.PTR, Outcome.UPSTREAM, ""),
        ("0.18.172.in-addr.arpa", RecordType.PTR, Outcome.UPSTREAM, ""),
        ("x.0.18.172.in-addr.arpa", RecordType.PTR, Outcome.UPSTREAM, ""),
    ],
)
def test_what_has_no_records_is_told_apart(
    name: str, kind: RecordType | None, outcome: Outcome, authority: str
) -> None:
    expected = labels_of(authority) if authority else ()
    assert look(name, kind) == Lookup(outcome=outcome, authority=expected)


def test_the_soa_of_a_reverse_name_is_at_the_first_label_inside_the_network() -> None:
    name = ipaddress.ip_address("fd00:18::9").reverse_pointer
    missing = look(name, RecordType.PTR)
    assert missing.outcome is Outcome.NO_NAME
    assert missing.authority == labels_of(name)[-18:]


@pytest.mark.parametrize(
    ("source", "project"),
    [
        ("172.18.0.9", "shop"),
        ("fd00:18::9", "shop"),
        ("172.19.15.255", "blog"),
        ("172.19.16.0", None),
        ("8.8.8.8", None),
        ("127.0.0.1", None),
        ("::1", None),
    ],
)
def test_the_source_decides_the_view(source: str, project: str | None) -> None:
    assert world().project_of(ipaddress.ip_address(source)) == project


def test_of_networks_inside_each_other_the_narrowest_decides() -> None:
    nested = {ipaddress.ip_network("10.0.0.0/8"): "wide", ipaddress.ip_network("10.1.0.0/16"): "narrow"}
    made = zone.build(nested, ())
    assert made.project_of(ipaddress.ip_address("10.1.2.3")) == "narrow"
    assert made.project_of(ipaddress.ip_address("10.2.2.3")) == "wide"


@pytest.mark.parametrize("name", ["web.shop.internal", "x.internal", "internal", "web", "5.0.18.172.in-addr.arpa"])
def test_before_the_services_are_known_what_may_be_ours_is_refused(name: str) -> None:
    assert world(None).lookup("shop", labels_of(name), RecordType.A) == Lookup(outcome=Outcome.NOT_LOADED)


def test_before_the_services_are_known_the_rest_of_the_world_is_there() -> None:
    assert world(None).lookup("shop", labels_of("example.com"), RecordType.A).outcome is Outcome.UPSTREAM


def test_a_project_without_services_still_denies_its_names() -> None:
    assert world(()).lookup("shop", labels_of("web.shop.internal"), None).outcome is Outcome.NO_NAME


def test_a_service_name_is_worth_more_than_somebody_elses_hostname() -> None:
    thief = zone.Service(project="shop", name="thief", hostname="web", replicas=(replica("1", "172.18.0.66"),))
    made = world((thief, *SERVICES))
    for name in ("web", "web.shop.internal"):
        records = made.lookup("shop", labels_of(name), RecordType.A).records
        assert AddressRecord(address=ipaddress.ip_address("172.18.0.66")) not in records
        assert len(records) == 2


def test_services_that_share_a_hostname_share_its_answers() -> None:
    blue = replace(WEB, name="blue", hostname="pair.lan", replicas=(replica("1", "172.18.0.7"),))
    green = replace(WEB, name="green", hostname="pair.lan", replicas=(replica("1", "172.18.0.8"),))
    records = world((blue, green)).lookup("shop", labels_of("pair.lan"), RecordType.A).records
    assert records == tuple(AddressRecord(address=address) for address in addresses("172.18.0.7", "172.18.0.8"))


def test_dots_underscores_and_capitals_of_names_are_labels() -> None:
    odd = zone.Service(project="My.Team", name="api_v1.Core", replicas=(replica("syn-X/1", "172.18.0.9"),))
    made = zone.build({ipaddress.ip_network("172.18.0.0/16"): "My.Team"}, (odd,))
    for name in ("api_v1.core.my.team.internal", "syn-x-1.api_v1.core.my.team.internal"):
        assert made.lookup("My.Team", labels_of(name), RecordType.A).outcome is Outcome.FOUND
    assert made.lookup("My.Team", labels_of("core.my.team.internal"), RecordType.A).outcome is Outcome.NO_DATA
    # A dotted service name is no name of the world outside.
    assert made.lookup("My.Team", labels_of("api_v1.core"), RecordType.A).outcome is Outcome.UPSTREAM


@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["y" * 60] * 5)])
def test_a_service_that_dns_cannot_name_is_left_out(name: str) -> None:
    made = world((replace(WEB, name=name, hostname=None), POSTS, DB))
    assert made.lookup("shop", labels_of(name + ".shop.internal"), RecordType.A).outcome is Outcome.NO_NAME
    assert made.lookup("blog", labels_of("posts"), RecordType.A).outcome is Outcome.FOUND


def test_labels_are_bytes_and_a_dot_inside_one_separates_nothing() -> None:
    assert world().lookup("shop", (b"web.shop.internal",), RecordType.A).outcome is Outcome.UPSTREAM
    assert world().lookup("shop", (b"web.shop", b"internal"), RecordType.A).outcome is Outcome.UPSTREAM


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=40), st.sampled_from([*RecordType, None]))
def test_any_labels_can_be_looked_up(labels: list[bytes], kind: RecordType | None) -> None:
    for made in (world(), world(None)):
        for project in ("shop", "unknown"):
            result = made.lookup(project, tuple(labels), kind)
            assert (result.outcome is Outcome.FOUND) == bool(result.records)


@given(st.ip_addresses())
def test_reverse_names_are_read_as_they_are_written(address: zone.Address) -> None:
    assert zone.address_of(labels_of(address.reverse_pointer)) == address


def test_networks_given_later_change_nothing() -> None:
    given_networks = dict(NETWORKS)
    made = zone.build(given_networks, SERVICES)
    given_networks.clear()
    assert made.project_of(ipaddress.ip_address("172.18.0.9")) == "shop"
