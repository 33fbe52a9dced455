"""From settings to a proxy's container: directories, mounts, refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from syntra.agent.config.settings import NetworkingSettings, Settings
from syntra.agent.proxy.setup import ProxySetup
from syntra.networking.errors import InvalidStatic
from syntra.runtime.docker.proxy_body import Bind
from syntra.utils.errors import AgentError


def setup(data_dir: Path, **networking: Any) -> ProxySetup:
    given = dataclasses.replace(NetworkingSettings(acme_email="ops@example.com"), **networking)
    return ProxySetup(settings=Settings(data_dir=data_dir, networking=given), owner="0123456789ab")


def test_the_defaults_need_an_address_only(tmp_path: Path) -> None:
    wanted = setup(tmp_path).wanted()
    assert wanted.image.pullable == "traefik:v3.7.13"
    assert wanted.binds == (
        Bind(source=f"{tmp_path}/traefik/dynamic", target="/syntra/dynamic", read_only=True),
        Bind(source=f"{tmp_path}/traefik/acme", target="/syntra/acme", read_only=False),
        Bind(source=f"{tmp_path}/traefik/certificates", target=f"{tmp_path}/traefik/certificates", read_only=True),
    )
    with pytest.raises(InvalidStatic, match=r"^cannot set up the proxy: networking\.acme_email: is empty"):
        setup(tmp_path, acme_email="").wanted()


def test_without_certificates_nothing_can_be_written(tmp_path: Path) -> None:
    [bind] = setup(tmp_path, cert_resolver="").wanted().binds
    assert bind.read_only


def test_an_entrypoint_for_redirects_is_needed_only_where_there_are_any(tmp_path: Path) -> None:
    listen = ("websecure=:443",)
    assert setup(tmp_path, proxy_listen=listen, cert_resolver="").static()
    with pytest.raises(InvalidStatic, match=r"https_redirect_entrypoint: web is not an entrypoint"):
        setup(tmp_path, proxy_listen=listen).static()


@pytest.mark.parametrize("above", ["", "traefik", "traefik/acme", "traefik/certificates"])
def test_keys_of_certificates_are_never_below_the_watched_directory(tmp_path: Path, above: str) -> None:
    with pytest.raises(InvalidStatic, match="traefik_dynamic_dir: is above the directory of the certificates' keys"):
        setup(tmp_path, traefik_dynamic_dir=str(tmp_path / above)).static()


def test_directories_are_made_with_their_modes(tmp_path: Path) -> None:
    made = setup(tmp_path / "data")
    made.make_directories()
    made.make_directories()
    assert made.dynamic_dir.stat().st_mode & 0o777 == 0o755
    assert made.acme_dir.stat().st_mode & 0o777 == 0o700
    assert made.certificates_dir.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "traefik").write_text("")
    with pytest.raises(AgentError, match=r"^cannot make the proxy's directories: .*traefik"):
        setup(tmp_path).make_directories()
