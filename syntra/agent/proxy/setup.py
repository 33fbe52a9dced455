"""Derives the proxy from the agent's settings: its static configuration, its directories, its container.

A configuration without a proxy raises InvalidStatic, so call nothing here before it is needed.
"""

from __future__ import annotations

import os
from pathlib import Path

from syntra.agent.config.settings import Settings
from syntra.model.image import make_image, split_image
from syntra.networking.errors import InvalidStatic
from syntra.networking.traefik_static import ACME_AT, DYNAMIC_AT, StaticSettings, arguments, parse_listener
from syntra.runtime.docker.proxy_body import Bind, WantedProxy
from syntra.utils.errors import AgentError
from syntra.utils.frozen import frozen


@frozen
class ProxySetup:
    """The proxy as the settings define it."""

    settings: Settings
    owner: str

    @property
    def api_url(self) -> str:
        return self.settings.networking.traefik_api

    @property
    def dynamic_dir(self) -> Path:
        return self.settings.networking.dynamic_dir(self.settings.data_dir)

    @property
    def acme_dir(self) -> Path:
        """The directory of certificates and the account key; outside the watched directory by default."""
        return self.settings.data_dir / "traefik" / "acme"

    @property
    def certificates_dir(self) -> Path:
        """The directory of certificates that a control plane sent, with their keys."""
        return certificates_dir(self.settings)

    def static(self) -> StaticSettings:
        """The static configuration. Raises InvalidStatic."""
        networking = self.settings.networking
        if networking.proxy != "traefik-file":
            raise InvalidStatic(
                "networking.proxy",
                f"is {networking.proxy}, and `proxy up` needs the routes file; set it to traefik-file",
            )
        if any(private.is_relative_to(self.dynamic_dir) for private in (self.acme_dir, self.certificates_dir)):
            raise InvalidStatic(
                "networking.traefik_dynamic_dir", "is above the directory of the certificates' keys; choose another"
            )
        redirects = networking.https_redirect_entrypoint and networking.cert_resolver
        return StaticSettings(
            listen=tuple(parse_listener(text) for text in networking.proxy_listen),
            api_url=networking.traefik_api,
            entrypoints=networking.entrypoints,
            redirect_from=networking.https_redirect_entrypoint if redirects else "",
            cert_resolver=networking.cert_resolver,
            acme_email=networking.acme_email,
        )

    def wanted(self) -> WantedProxy:
        """The container to create. Raises InvalidStatic."""
        static = self.static()
        binds = [Bind(source=str(self.dynamic_dir), target=DYNAMIC_AT, read_only=True)]
        if static.cert_resolver:
            binds.append(Bind(source=str(self.acme_dir), target=ACME_AT, read_only=False))
            # The same path as on the host, so that the routes name these files in one way for every proxy.
            at = str(self.certificates_dir)
            binds.append(Bind(source=at, target=at, read_only=True))
        return WantedProxy(
            owner=self.owner,
            image=make_image(
                lambda part: f"networking.proxy_image.{part}", split_image(self.settings.networking.proxy_image)
            ),
            arguments=arguments(static),
            binds=tuple(binds),
            as_root=os.geteuid() == 0,
        )

    def make_directories(self) -> None:
        """Create the directories that are missing. Raises AgentError."""
        try:
            # Same mode as `networking.file_writer`: a proxy in a container may read it as another user.
            if not self.dynamic_dir.is_dir():
                self.dynamic_dir.mkdir(parents=True, exist_ok=True)
                self.dynamic_dir.chmod(0o755)
            for private in (self.acme_dir, self.certificates_dir):
                private.mkdir(mode=0o700, parents=True, exist_ok=True)
                private.chmod(0o700)
        except OSError as refused:
            raise AgentError(
                f"cannot make the proxy's directories: {refused.filename}: {refused.strerror}; check path and rights"
            ) from refused


def certificates_dir(settings: Settings) -> Path:
    """The directory of certificates that a control plane sent."""
    return settings.data_dir / "traefik" / "certificates"
