"""Traefik's static configuration as command arguments, for the proxy that the agent runs. Pure.

Arguments instead of a file: they are part of the container, so comparing two configurations means comparing two lists,
and there is no file to mount or to keep in sync. They contain no secrets.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from syntra.networking.errors import InvalidStatic
from syntra.utils.frozen import frozen

DYNAMIC_AT = "/syntra/dynamic"
"""The path of the watched directory inside the container."""
ACME_AT = "/syntra/acme"
"""The path of the certificates and the ACME account key: outside the watched directory, whose files Traefik reads."""
INTERNAL = "traefik"
"""The entrypoint on which Traefik serves its API, metrics and ping by default."""
ACME_PORT = 80
"""The port of HTTP-01 requests (RFC 8555 section 8.3)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PORT = re.compile(r"[0-9]{1,5}")


@frozen
class Listener:
    """One entrypoint. `host` is an IP address, or empty for every address of the host."""

    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """`:80`, `127.0.0.1:80` or `[::1]:80`."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_listener(text: str) -> Listener:
    """Parse `web=:80`. Raises ValueError with the reason, which does not quote the text."""
    name, equals, address = text.partition("=")
    if not equals or _NAME.fullmatch(name) is None:
        raise ValueError('is not an entrypoint with its address, such as "web=:80"')
    if name == INTERNAL:
        raise ValueError(f'must not be called "{INTERNAL}", which is where the API is; see traefik_api')
    host, colon, port = address.rpartition(":")
    if not colon or _PORT.fullmatch(port) is None or not 1 <= int(port) <= 65535:
        raise ValueError("has no port (1–65535) behind its last colon")
    if not host:
        return Listener(name=name, host="", port=int(port))
    try:
        bracketed = host.startswith("[") and host.endswith("]")
        found = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise ValueError("has something before the port that is not an IP address") from None
    if bracketed != (found.version == 6):
        raise ValueError("has an IP address in the wrong form: IPv6 in brackets, IPv4 without")
    return Listener(name=name, host=str(found), port=int(port))


@frozen
class StaticSettings:
    """The input of the static configuration. Raises InvalidStatic when the proxy could not run with it.

    `api_url` is the address of the API: plain HTTP on loopback. Routes use `entrypoints` and `redirect_from`, and name
    `cert_resolver`; if that is empty, there is no ACME.
    """

    listen: tuple[Listener, ...]
    api_url: str
    entrypoints: tuple[str, ...]
    redirect_from: str = ""
    cert_resolver: str = ""
    acme_email: str = ""

    def __post_init__(self) -> None:
        names = [listener.name for listener in self.listen]
        if len(set(names)) < len(names):
            raise InvalidStatic("networking.proxy_listen", "holds a name twice; give every entrypoint one of its own")
        for key, wanted in (("entrypoints", self.entrypoints), ("https_redirect_entrypoint", (self.redirect_from,))):
            for name in filter(None, wanted):
                if name not in names:
                    raise InvalidStatic(
                        f"networking.{key}", f"{name} is not an entrypoint of the proxy; add it to proxy_listen"
                    )
        api = self.api
        for listener in self.listen:
            if listener.port == api.port and listener.host in ("", "0.0.0.0", "::", api.host):
                raise InvalidStatic(
                    "networking.traefik_api", f"has the port of entrypoint {listener.name}; give it another"
                )
        if self.cert_resolver and not self.acme_email:
            raise InvalidStatic(
                "networking.acme_email",
                f"is empty, and certificate resolver {self.cert_resolver} needs an address for its account; "
                'set it, or set cert_resolver to "" to serve without TLS',
            )

    @property
    def api(self) -> Listener:
        """The internal entrypoint."""
        parts = urlsplit(self.api_url)
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
        if parts.scheme != "http" or parts.path.strip("/"):
            raise InvalidStatic("networking.traefik_api", "must be http:// with a host and port alone")
        try:
            is_loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            raise InvalidStatic(
                "networking.traefik_api",
                "is not on loopback, and the API tells everybody who can reach it about every route; "
                "use 127.0.0.1 and a port",
            )
        return Listener(name=INTERNAL, host=host, port=parts.port or 80)

    @property
    def acme_listener(self) -> Listener | None:
        """The entrypoint for HTTP-01: the one on port 80, else one called `web`; None means TLS-ALPN-01."""
        on_port = [listener for listener in self.listen if listener.port == ACME_PORT]
        by_name = [listener for listener in self.listen if listener.name == "web"]
        return next(iter(on_port + by_name), None)


def arguments(static: StaticSettings) -> tuple[str, ...]:
    """The arguments, without the program. The same settings give the same arguments in the same order."""
    found = {
        "global.checkNewVersion": "false",
        "global.sendAnonymousUsage": "false",
        "log.level": "INFO",
        "api.insecure": "true",  # on the internal entrypoint, which is on loopback
        "api.dashboard": "false",
        "ping": "true",
        "metrics.prometheus": "true",
        "metrics.prometheus.addRoutersLabels": "true",
        "metrics.prometheus.addServicesLabels": "true",
        "providers.file.directory": DYNAMIC_AT,
        "providers.file.watch": "true",
        "providers.providersThrottleDuration": "100ms",
    }
    for listener in (*static.listen, static.api):
        found[f"entryPoints.{listener.name}.address"] = listener.address
    if static.cert_resolver:
        acme = f"certificatesResolvers.{static.cert_resolver}.acme"
        found[f"{acme}.email"] = static.acme_email
        found[f"{acme}.storage"] = f"{ACME_AT}/acme.json"
        found[f"{acme}.keyType"] = "EC256"
        challenge = static.acme_listener
        if challenge is not None:
            found[f"{acme}.httpChallenge.entryPoint"] = challenge.name
        else:
            found[f"{acme}.tlsChallenge"] = "true"
    return tuple(f"--{name}={value}" for name, value in found.items())
