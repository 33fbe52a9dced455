"""Labels for Traefik's Docker provider: the agent's own, and those that make an image's harmless."""

from __future__ import annotations

import re

import pytest

from syntra.model.ids import ServiceId
from syntra.networking.errors import InvalidRoute
from syntra.networking.traefik import ProxySettings
from syntra.networking.traefik_labels import NOT_ROUTED, label_name, labels
from tests.model.samples import spec
from tests.networking.real_traefik import PLAIN
from tests.networking.samples import INJECTIONS

NEVER = "PathPrefix(`/`) && !PathPrefix(`/`)"
OWN = labels(spec(service_id="svc-1", domains=("a.example",)), PLAIN, {})


def added(*keys: str) -> dict[str, str]:
    """What an image with these labels makes the agent set beside its own."""
    found = labels(spec(service_id="svc-1", domains=("a.example",)), PLAIN, dict.fromkeys(keys, "x"))
    assert {key: found[key] for key in OWN} == OWN
    return {key: value for key, value in found.items() if key not in OWN}


def test_labels_are_those_of_the_contract() -> None:
    wanted = spec(service_id="svc-1", domains=("a.example", "b.example"), port=3000)
    assert labels(wanted, ProxySettings(), {"maintainer": "x", "traefik.port": "80"}) == {
        "traefik.enable": "true",
        "traefik.http.routers.syn-svc-1.rule": "Host(`a.example`) || Host(`b.example`)",
        "traefik.http.routers.syn-svc-1.entrypoints": "websecure",
        "traefik.http.routers.syn-svc-1.service": "syn-svc-1",
        "traefik.http.routers.syn-svc-1.tls.certresolver": "letsencrypt",
        "traefik.http.services.syn-svc-1.loadbalancer.server.port": "3000",
    }


def test_a_service_without_domains_or_port_is_not_for_traefik_whatever_its_image_says() -> None:
    image = {"traefik.enable": "true", "traefik.tls.stores.default.defaultcertificate.certfile": "/x"}
    assert labels(spec(), ProxySettings(), image) == NOT_ROUTED == {"traefik.enable": "false"}
    assert labels(spec(domains=("a.example",), port=None), ProxySettings(), image) == NOT_ROUTED


def test_labels_without_a_resolver_have_no_tls() -> None:
    found = labels(spec(domains=("a.example",)), PLAIN, {})
    assert not [key for key in found if "tls" in key]
    assert found["traefik.http.routers.syn-svc_123.entrypoints"] == "web"


@pytest.mark.parametrize("bad", INJECTIONS)
def test_labels_are_checked_like_routes(bad: str) -> None:
    with pytest.raises(InvalidRoute):
        labels(spec(domains=(bad,)), ProxySettings(), {})
    with pytest.raises(InvalidRoute):
        labels(spec(service_id=bad, domains=("a.example",)), ProxySettings(), {})


def test_an_id_with_dots_does_not_split_a_labels_path_and_stays_distinct() -> None:
    names = [label_name(ServiceId(text)) for text in ("a.b", "a-b", "a..b", "a.-b", "a-.b", "a_b")]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)
    assert label_name(ServiceId("svc-1")) == "syn-svc-1"


def test_a_router_of_the_image_matches_nothing_under_a_name_of_its_own() -> None:
    assert added("traefik.http.routers.App.rule", "traefik.http.routers.App.priority") == {
        "traefik.http.routers.App.rule": NEVER,
        "traefik.HTTP.ROUTERS.APP.RULE": NEVER,
        "traefik.HTTP.ROUTERS.APP.SERVICE": "noop@internal",
        "traefik.HTTP.ROUTERS.APP.TLS": "false",
    }


def test_services_and_middlewares_of_the_image_keep_their_values_under_another_name() -> None:
    assert added("traefik.http.services.syn-other.loadbalancer.server.port") == {
        "traefik.HTTP.SERVICES.SYN-OTHER.LOADBALANCER.SERVER.PORT": ""
    }
    assert added("traefik.http.middlewares.auth.basicauth.users") == {
        "traefik.HTTP.MIDDLEWARES.AUTH.BASICAUTH.USERS": ""
    }


def test_labels_of_a_copy_of_its_own_container_become_its_own_again() -> None:
    copy = labels(spec(service_id="svc-1", domains=("old.example",)), ProxySettings(), {})
    assert added(*copy) == {
        "traefik.http.routers.syn-svc-1.tls": "false",
        # What is inherited beside it is off.
    }
    assert added("traefik.HTTP.routers.syn-svc-1.Rule") == {"traefik.HTTP.routers.syn-svc-1.Rule": "Host(`a.example`)"}
    assert added("traefik.Enable", "traefik.docker.network") == {"traefik.Enable": "true", "traefik.docker.network": ""}


@pytest.mark.parametrize(
    "key",
    [
        "Traefik.http.routers.app.rule",
        "traefik.tls.stores.default.defaultgeneratedcert.resolver",
        "traefik.http.serverstransports.app.insecureskipverify",
        "traefik.http.services.app.weighted.services[0].name",
        "traefik.http.services.app",
        "traefik.http.routers.8080.rule",
        "traefik.http.routers.WEB.rule",
        "traefik.http.router\u017f.app.rule",
        "traefik.http.routers.app..rule",
        "traefik.http.routers.SYN-svc-1.rule",
        "traefik.http.routers.syn-svc-1.middlewares",
        "traefik.http",
        "traefik.httpx.y",
        "traefik.enabled",
        "traefik.docker.other",
    ],
)
def test_a_label_that_cannot_be_made_harmless_is_refused_by_name(key: str) -> None:
    with pytest.raises(InvalidRoute, match=r"remove it from the image") as refused:
        added(key)
    assert repr(key) in str(refused.value)
