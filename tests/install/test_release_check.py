"""The binary's own check of the release that it came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from syntra.install.errors import InstallError
from syntra.install.release_check import check_release
from syntra.update.build_target import build_target
from syntra.update.manifest import archive_name
from tests.update.release_site import ReleaseSite, public, stand_in

NAMES = ("keys.json", "keys.json.sig", "stable/manifest.json", "stable/manifest.json.sig")


def downloaded(site: ReleaseSite, folder: Path) -> Path:
    """A release as scripts/install.sh has downloaded it."""
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        (folder / Path(name).name).write_bytes(site.files[f"/{name}"])
    archive = archive_name("1.2.0", build_target())
    (folder / archive).write_bytes(site.files.get(f"/1.2.0/{archive}", b""))
    return folder


def check(folder: Path, roots: Path, version: str = "1.2.0", later: float = 0.0) -> None:
    check_release(folder, version=version, target=build_target(), roots_file=roots, now=time.time() + later)


@pytest.fixture
def site() -> Iterator[ReleaseSite]:
    with ReleaseSite() as made:
        made.publish("1.2.0", stand_in("1.2.0"))
        yield made


def test_a_whole_release_passes(site: ReleaseSite, tmp_path: Path) -> None:
    check(downloaded(site, tmp_path / "release"), site.roots_file(tmp_path))


def another_root(site: ReleaseSite) -> None:
    site.write_keys(signed_by=[Ed25519PrivateKey.generate()])


def revoked(site: ReleaseSite) -> None:
    site.write_keys(revoked=[public(site.key).key_id])


def changed_manifest(site: ReleaseSite) -> None:
    site.files["/stable/manifest.json"] += b" "


def changed_archive(site: ReleaseSite) -> None:
    site.files[site.archive_path("1.2.0")] += b"!"


def another_version(site: ReleaseSite) -> None:
    site.publish("1.3.0", stand_in("1.3.0"))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (another_root, "keys.json is not signed by a key that this agent trusts"),
        (revoked, "manifest.json is not signed by a key that this agent trusts"),
        (changed_manifest, "the signature of manifest.json is wrong"),
        (changed_archive, "differs from the manifest"),
        (another_version, "the manifest is of version 1.3.0, and this program is 1.2.0"),
    ],
)
def test_a_fault_is_refused(
    fault: Callable[[ReleaseSite], None], sentence: str, site: ReleaseSite, tmp_path: Path
) -> None:
    fault(site)
    with pytest.raises(InstallError, match=sentence):
        check(downloaded(site, tmp_path / "release"), site.roots_file(tmp_path))


def test_an_expired_release_is_refused(site: ReleaseSite, tmp_path: Path) -> None:
    site.write_keys(days=300)
    with pytest.raises(InstallError, match="the release has expired"):
        check(downloaded(site, tmp_path / "release"), site.roots_file(tmp_path), later=31 * 86_400)


@pytest.mark.parametrize("name", [Path(name).name for name in NAMES])
def test_a_missing_file_is_refused_by_name(name: str, site: ReleaseSite, tmp_path: Path) -> None:
    folder = downloaded(site, tmp_path / "release")
    (folder / name).unlink()
    with pytest.raises(InstallError, match=f"cannot read {name.removesuffix('.sig')}: there is no such file"):
        check(folder, site.roots_file(tmp_path))
