"""The proxy's static configuration: what it is made of, what is refused, and that the real program takes it."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
from pathlib import Path
from typing import Any

import pytest

from syntra.networking.errors import InvalidStatic
from syntra.networking.proxy_info import ProxyInfo
from syntra.networking.traefik_static import ACME_AT, DYNAMIC_AT, Listener, StaticSettings, arguments, parse_listener
from tests.engine import fetch, wait_until
from tests.networking.real_traefik import free_ports, program

LISTEN = (parse_listener("web=:80"), parse_listener("websecure=:443"))


def settings(**changes: Any) -> StaticSettings:
    given: dict[str, Any] = {
        "listen": LISTEN,
        "api_url": "http://127.0.0.1:8080",
        "entrypoints": ("websecure",),
        "redirect_from": "web",
        "cert_resolver": "letsencrypt",
        "acme_email": "ops@example.com",
    }
    return StaticSettings(**{**given, **changes})


def test_the_default_configuration_in_full() -> None:
    assert arguments(settings()) == (
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
        "--log.level=INFO",
        "--api.insecure=true",
        "--api.dashboard=false",
        "--ping=true",
        "--metrics.prometheus=true",
        "--metrics.prometheus.addRoutersLabels=true",
        "--metrics.prometheus.addServicesLabels=true",
        "--providers.file.directory=/syntra/dynamic",
        "--providers.file.watch=true",
        "--providers.providersThrottleDuration=100ms",
        "--entryPoints.web.address=:80",
        "--entryPoints.websecure.address=:443",
        "--entryPoints.traefik.address=127.0.0.1:8080",
        "--certificatesResolvers.letsencrypt.acme.email=ops@example.com",
        "--certificatesResolvers.letsencrypt.acme.storage=/syntra/acme/acme.json",
        "--certificatesResolvers.letsencrypt.acme.keyType=EC256",
        "--certificatesResolvers.letsencrypt.acme.httpChallenge.entryPoint=web",
    )


def test_no_engine_socket_and_no_provider_but_the_file() -> None:
    text = " ".join(arguments(settings()))
    assert "docker" not in text
    assert text.count("--providers.") == 3


@pytest.mark.parametrize(
    ("listen", "challenge"),
    [
        (("web=:8000", "plain=:80"), "httpChallenge.entryPoint=plain"),
        (("web=:8000", "websecure=:8443"), "httpChallenge.entryPoint=web"),
        (("websecure=:443",), "tlsChallenge=true"),
    ],
)
def test_certificates_are_asked_for_where_the_authority_can_reach(listen: tuple[str, ...], challenge: str) -> None:
    made = settings(
        listen=tuple(parse_listener(text) for text in listen), entrypoints=(listen[0].split("=")[0],), redirect_from=""
    )
    assert [text for text in arguments(made) if "hallenge" in text] == [
        f"--certificatesResolvers.letsencrypt.acme.{challenge}"
    ]


def test_without_a_resolver_there_is_no_acme_and_no_address_needed() -> None:
    assert not any("acme" in text for text in arguments(settings(cert_resolver="", acme_email="")))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "[::1]"])
def test_the_api_is_on_loopback(host: str) -> None:
    assert f"--entryPoints.traefik.address={host}:9000" in arguments(settings(api_url=f"http://{host}:9000"))


def test_localhost_is_spelt_as_an_address() -> None:
    assert settings(api_url="http://localhost:9000").api.address == "127.0.0.1:9000"


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "API on every address": ({"api_url": "http://0.0.0.0:8080"}, "networking.traefik_api", "is not on loopback"),
    "API by a name": ({"api_url": "http://proxy.example:8080"}, "networking.traefik_api", "is not on loopback"),
    "API with TLS": ({"api_url": "https://127.0.0.1:8080"}, "networking.traefik_api", "must be http://"),
    "API below a path": ({"api_url": "http://127.0.0.1:8080/x"}, "networking.traefik_api", "must be http://"),
    "API on an entrypoint": (
        {"api_url": "http://127.0.0.1:80"},
        "networking.traefik_api",
        "the port of entrypoint web",
    ),
    "no address for ACME": ({"acme_email": ""}, "networking.acme_email", "resolver letsencrypt needs an address"),
    "routes elsewhere": ({"entrypoints": ("other",)}, "networking.entrypoints", "other is not an entrypoint"),
    "redirect from nowhere": ({"redirect_from": "x"}, "networking.https_redirect_entrypoint", "x is not an entrypoint"),
    "one name twice": ({"listen": LISTEN + LISTEN}, "networking.proxy_listen", "holds a name twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_by_the_key_to_change(case: str) -> None:
    changes, key, reason = REFUSED[case]
    with pytest.raises(InvalidStatic) as caught:
        settings(**changes)
    assert (caught.value.key, caught.value.code) == (key, "CONFIGURATION")
    assert str(caught.value).startswith(f"cannot set up the proxy: {key}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("web=:80", Listener(name="web", host="", port=80)),
        ("a_B-1=10.0.0.1:65535", Listener(name="a_B-1", host="10.0.0.1", port=65535)),
        ("web=[2001:DB8::0:1]:1", Listener(name="web", host="2001:db8::1", port=1)),
    ],
)
def test_listeners_are_read_and_written(text: str, listener: Listener) -> None:
    assert parse_listener(text) == listener
    assert parse_listener(f"{listener.name}={listener.address}") == listener


NO_LISTENERS = (
    *(
        "",
        "web",
        "web=",
        "=:80",
        "web=80",
        "web=:0",
        "web=:65536",
        "web=:",
        "web=:٣",
        "web=::1:80",
        "web=[10.0.0.1]:80",
    ),
    *(
        "web=host:80",
        "w b=:80",
        "w.b=:80",
        "web=:80/udp",
        "web=[::1]80",
        "traefik=:81",
        "-x=:80",
        "web=[::1:80",
        "w=x]:1",
    ),
)


@pytest.mark.parametrize("text", NO_LISTENERS)
def test_what_is_no_listener_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"entrypoint|port|address|called"):
        parse_listener(text)


async def test_the_real_program_takes_the_arguments(tmp_path: Path) -> None:
    plain, secure, internal = free_ports(3)
    made = settings(
        # A name keeps its capitals: Traefik takes option names in any case, but not these parts of them.
        listen=(parse_listener(f"Web-1=127.0.0.1:{plain}"), parse_listener(f"secure=127.0.0.1:{secure}")),
        api_url=f"http://127.0.0.1:{internal}",
        entrypoints=("secure",),
        redirect_from="Web-1",
        cert_resolver="Let_s",
    )
    (tmp_path / "dynamic").mkdir()
    (tmp_path / "acme").mkdir(mode=0o700)
    here = {DYNAMIC_AT: str(tmp_path / "dynamic"), ACME_AT: str(tmp_path / "acme")}
    words = list(arguments(made))
    for inside, outside in here.items():
        words = [word.replace(inside, outside) for word in words]
    log = tmp_path / "log"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return fetch("127.0.0.1", internal, "/ping")[0] == 200
        return False

    with log.open("wb") as out, subprocess.Popen([program(), *words], stdout=out, stderr=out) as process:
        try:
            wait_until(answers, "Traefik answers on its internal entrypoint")
            assert "traefik_config_reloads_total" in fetch("127.0.0.1", internal, "/metrics")[1]
            seen = await ProxyInfo(made.api_url).entrypoints()
            assert seen == {listener.name: listener.address for listener in (*made.listen, made.api)}
            assert fetch("127.0.0.1", plain, "/.well-known/acme-challenge/x")[0] == 404
        finally:
            process.terminate()
    assert "ERR" not in log.read_text(), log.read_text()
    assert (tmp_path / "acme/acme.json").stat().st_mode & 0o777 == 0o600
