"""Tables as Traefik's configuration: exact, in order, and holding the hosts that were asked for alone."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.ids import ServiceId
from syntra.model.spec import RateLimit, Routing
from syntra.networking.errors import InvalidRoute
from syntra.networking.routes import Endpoint, RouteTable, ServiceRoute
from syntra.networking.traefik import (
    GENERATION,
    ProxySettings,
    ServedCertificate,
    configuration,
    generation,
    render,
    rule,
)
from tests.model.samples import domains, few, path_prefixes, quick, routings
from tests.networking.real_traefik import PLAIN
from tests.networking.samples import INJECTIONS, endpoint, group, route


def tree(*routes: ServiceRoute, proxy: ProxySettings | None = None) -> dict[str, Any]:
    found: Any = configuration(RouteTable(tuple(routes)), proxy or ProxySettings())["http"]
    return dict(found)


def test_one_service_in_full() -> None:
    found = tree(
        route(
            "svc_1",
            "api.example",
            groups=(group(endpoint()),),
            path_prefix="/v1",
            strip_prefix=True,
            sticky=True,
            response_headers=(("X-A", "1"),),
            rate_limit=RateLimit(average=10, burst=20),
        )
    )
    where = "Host(`api.example`) && (Path(`/v1`) || PathPrefix(`/v1/`))"
    sticky = {"sticky": {"cookie": {"httpOnly": True, "secure": True, "sameSite": "lax"}}}
    assert found["routers"] == {
        "syn-svc_1~api.example": {
            "rule": where,
            "priority": 2503,
            "entryPoints": ["websecure"],
            "service": "syn-svc_1",
            "middlewares": ["syn-svc_1~headers", "syn-svc_1~limit", "syn-svc_1~strip"],
            "tls": {"certResolver": "letsencrypt"},
        },
        "syn-svc_1~api.example~http": {
            "rule": where,
            "priority": 2503,
            "entryPoints": ["web"],
            "service": "noop@internal",
            "middlewares": ["syntra-https"],
        },
    }
    assert found["services"] == {
        "syn-svc_1": {"weighted": {"services": [{"name": "syn-svc_1~d1", "weight": 100}], **sticky}},
        "syn-svc_1~d1": {
            "loadBalancer": {
                "passHostHeader": True,
                "servers": [{"url": "http://10.0.0.1:80"}],
                "serversTransport": "syntra",
                **sticky,
            }
        },
    }
    del found["middlewares"][GENERATION]
    assert found["middlewares"] == {
        "syn-svc_1~headers": {"headers": {"customResponseHeaders": {"X-A": "1"}}},
        "syn-svc_1~limit": {"rateLimit": {"average": 10, "burst": 20}},
        "syn-svc_1~strip": {"stripPrefix": {"prefixes": ["/v1"]}},
        "syntra-https": {"redirectScheme": {"scheme": "https", "permanent": True}},
    }


def test_an_empty_table_is_a_configuration_without_empty_sections() -> None:
    for proxy in (ProxySettings(), PLAIN):
        found = tree(proxy=proxy)
        assert {"middlewares", "serversTransports"} == set(found)
        assert all(found.values())


def test_a_service_without_domains_is_not_routed() -> None:
    assert tree(route("a")) == tree()


def test_a_wildcard_names_its_certificate_and_comes_after_exact_hosts() -> None:
    found = tree(route("a", "*.example.com", "www.example.com"))["routers"]
    wildcard, exact = found["syn-a~*.example.com"], found["syn-a~www.example.com"]
    assert wildcard["rule"] == r"HostRegexp(`^[^.]+\.example\.com\.?$`)"
    assert wildcard["tls"] == {"certResolver": "letsencrypt", "domains": [{"main": "*.example.com"}]}
    assert exact["tls"] == {"certResolver": "letsencrypt"}
    assert exact["priority"] > wildcard["priority"]


def test_priorities_go_by_precision_and_never_by_the_length_of_the_host() -> None:
    def priority(domain: str, **routing: Any) -> int:
        return int(tree(route("a", domain, **routing))["routers"][f"syn-a~{domain}"]["priority"])

    long = "very-long-name-of-a-domain." * 6 + "example"
    ordered = [
        priority("a.example", path_prefix="/" + "a" * 254),
        priority("a.example", path_prefix="/api"),
        priority(long, path_prefix="/x"),
        priority("a.example"),
        priority("*." + long, path_prefix="/" + "a" * 254),
        priority("*.a.example", path_prefix="/x"),
        priority("*." + long),
    ]
    assert ordered == sorted(ordered, reverse=True)
    assert len(set(ordered)) == len(ordered)
    assert priority("a.example", priority=7) == 7


def test_groups_without_weight_or_endpoints_get_nothing_while_others_can_serve() -> None:
    groups = (
        group(endpoint("10.0.0.1"), name="blue", weight=90),
        group(endpoint("10.0.0.2"), name="green", weight=10),
        group(endpoint("10.0.0.3"), name="next", weight=0),
        group(name="gone", weight=50),
    )
    found = tree(route("a", "a.example", groups=groups))["services"]
    assert found["syn-a"]["weighted"]["services"] == [
        {"name": "syn-a~blue", "weight": 90},
        {"name": "syn-a~green", "weight": 10},
    ]
    assert set(found) == {"syn-a", "syn-a~blue", "syn-a~green", "syn-a~next", "syn-a~gone"}


def test_a_service_without_endpoints_keeps_its_router_and_answers_503() -> None:
    found = tree(route("a", "a.example"))
    assert found["services"]["syn-a"] == {"loadBalancer": {"servers": [], "serversTransport": "syntra"}}
    assert found["routers"]["syn-a~a.example"]["service"] == "syn-a"


def test_endpoints_of_ipv6_are_in_brackets() -> None:
    found = tree(route("a", "a.example", groups=(group(endpoint("fd00::2", 8080)),)))["services"]
    assert found["syn-a~d1"]["loadBalancer"]["servers"] == [{"url": "http://[fd00::2]:8080"}]


@pytest.mark.parametrize(
    "proxy",
    [
        ProxySettings(https_redirect_entrypoint=""),
        ProxySettings(cert_resolver=""),
        ProxySettings(entrypoints=("web", "websecure")),
    ],
)
def test_without_tls_or_an_entrypoint_for_it_nothing_is_redirected(proxy: ProxySettings) -> None:
    found = tree(route("a", "a.example"), proxy=proxy)
    assert list(found["routers"]) == ["syn-a~a.example"]
    assert "syntra-https" not in found["middlewares"]
    assert ("tls" in found["routers"]["syn-a~a.example"]) is bool(proxy.cert_resolver)


def test_the_file_is_yaml_and_json_and_says_who_wrote_it() -> None:
    table = RouteTable((route("a", "a.example", groups=(group(endpoint()),)), route("b", "b.example")))
    text = render(table, ProxySettings()).decode("ascii")
    assert text.startswith("# Written by syntra-agent")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert json.loads(body) == yaml.safe_load(text) == configuration(table, ProxySettings())


def test_a_change_of_one_service_changes_its_lines_and_the_generation_alone() -> None:
    routes = [route(f"s{n}", f"s{n}.example", groups=(group(endpoint()),)) for n in range(20)]
    before = RouteTable(tuple(routes))
    routes[7] = route("s7", "s7.example", groups=(group(endpoint("10.0.0.9")),))
    after = RouteTable(tuple(routes))
    old, new = (render(table, ProxySettings()).decode().splitlines() for table in (before, after))
    differing = [line for line, other in zip(old, new, strict=True) if line != other]
    assert [line.split(":")[0] for line in differing] == ['"syntra-generation"', '"syn-s7~d1"']


def test_configurations_that_differ_have_different_generations() -> None:
    tables = [RouteTable(), RouteTable((route("a", "a.example"),)), RouteTable((route("a", "b.example"),))]
    found = {generation(configuration(table, proxy)) for table in tables for proxy in (ProxySettings(), PLAIN)}
    assert len(found) == 6
    assert generation(configuration(RouteTable(), PLAIN)) == generation(configuration(RouteTable(), PLAIN))


@pytest.mark.parametrize("bad", INJECTIONS)
def test_names_of_the_proxys_own_are_checked(bad: str) -> None:
    with pytest.raises(InvalidRoute):
        ProxySettings(entrypoints=(bad,))
    if bad:
        with pytest.raises(InvalidRoute):
            ProxySettings(cert_resolver=bad)
        with pytest.raises(InvalidRoute):
            ProxySettings(https_redirect_entrypoint=bad)
    with pytest.raises(InvalidRoute):
        ProxySettings(entrypoints=())


# A rule of ours taken apart: matchers with one argument, put together by these words alone.
_MATCHER = re.compile(r"(Host|HostRegexp|Path|PathPrefix)\(`([^`]*)`\)")


@quick
@given(st.lists(domains, min_size=1, max_size=5, unique=True), st.none() | path_prefixes)
def test_a_rule_holds_exactly_the_hosts_and_the_path(wanted: list[str], prefix: str | None) -> None:
    text = rule(tuple(wanted), prefix)
    assert set(_MATCHER.sub("M", text)) <= set("M ()|&")
    found = _MATCHER.findall(text)
    hosts = [value for kind, value in found if kind == "Host"]
    patterns = [value for kind, value in found if kind == "HostRegexp"]
    assert hosts == [domain for domain in wanted if not domain.startswith("*.")]
    wildcards = [domain for domain in wanted if domain.startswith("*.")]
    assert len(patterns) == len(wildcards)
    for pattern, wildcard in zip(patterns, wildcards, strict=True):
        assert re.fullmatch(pattern, wildcard.replace("*", "any"))
        assert re.fullmatch(pattern, wildcard.replace("*", "any") + "."), "as Traefik takes a plain name"
        assert not re.fullmatch(pattern, wildcard.replace("*", "any") + "..")
        for other in (
            wildcard.removeprefix("*."),
            "a.b" + wildcard[1:],
            wildcard.replace("*.", "any-"),
            "x" + wildcard,
        ):
            assert not re.fullmatch(pattern, other.replace("*", "-."))
    paths = [] if prefix is None else [("Path", prefix), ("PathPrefix", prefix + "/")]
    assert [pair for pair in found if pair[0].startswith("Path")] == paths


@few
@given(st.lists(st.tuples(st.lists(domains, max_size=3), routings()), max_size=4))
def test_every_table_is_plain_text_that_reads_back(services: list[tuple[list[str], Routing]]) -> None:
    routes = [
        ServiceRoute(service_id=ServiceId(f"s{n}"), domains=tuple(names), routing=routing, groups=(group(endpoint()),))
        for n, (names, routing) in enumerate(services)
    ]
    table = RouteTable(tuple(routes))
    text = render(table, ProxySettings()).decode("ascii")
    assert "{{" not in text
    assert all(line.isprintable() for line in text.splitlines())
    found = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    assert found == configuration(table, ProxySettings())
    wanted = {f"syn-{route.service_id}~{domain}" for route in routes for domain in route.domains}
    routers = found["http"].get("routers", {})
    assert {name for name in routers if not name.endswith("~http")} == wanted


def test_two_endpoints_at_one_address_are_one_server() -> None:
    both: tuple[Endpoint, ...] = (endpoint(container_id="c1"), endpoint(container_id="c2"))
    found = tree(route("a", "a.example", groups=(group(*both),)))["services"]
    assert found["syn-a~d1"]["loadBalancer"]["servers"] == [{"url": "http://10.0.0.1:80"}]


# Certificates of ours


CERTIFICATE = ServedCertificate(domain="api.example", cert_path="/data/a.crt", key_path="/data/a.key")


def test_a_certificate_of_ours_is_served_for_its_routed_domain_and_nothing_is_asked_for_it() -> None:
    table = RouteTable((route("svc_1", "api.example", "www.example", groups=(group(endpoint()),)),))
    found: Any = yaml.safe_load(render(table, ProxySettings(), [CERTIFICATE]))
    assert found == configuration(table, ProxySettings(), [CERTIFICATE])
    assert found["tls"] == {"certificates": [{"certFile": "/data/a.crt", "keyFile": "/data/a.key"}]}
    assert found["http"]["routers"]["syn-svc_1~api.example"]["tls"] == {}
    assert found["http"]["routers"]["syn-svc_1~www.example"]["tls"] == {"certResolver": "letsencrypt"}


def test_a_certificate_changes_the_generation_and_its_absence_changes_nothing() -> None:
    table = RouteTable((route("svc_1", "api.example", groups=(group(endpoint()),)),))
    renewed = ServedCertificate(domain="api.example", cert_path="/data/b.crt", key_path="/data/b.key")
    made = [configuration(table, ProxySettings(), served) for served in ([], [CERTIFICATE], [renewed])]
    assert len({generation(one) for one in made}) == 3
    assert made[0] == configuration(table, ProxySettings()) and "tls" not in made[0]


def test_a_certificate_is_left_out_where_nothing_is_routed_to_its_domain_or_there_is_no_tls() -> None:
    elsewhere = RouteTable((route("svc_1", "www.example", groups=(group(endpoint()),)),))
    assert render(elsewhere, ProxySettings(), [CERTIFICATE]) == render(elsewhere, ProxySettings())
    table = RouteTable((route("svc_1", "api.example", groups=(group(endpoint()),)),))
    assert render(table, PLAIN, [CERTIFICATE]) == render(table, PLAIN)
