"""Source and binary packages of Debian, fetched with apt in a private configuration and checked against the pins."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from build import cache
from build.errors import BuildError
from build.targets import Target

PINS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "pins.toml").read_text())
SOURCE_SUITE, BINARY_SUITES = "trixie", ("bullseye", "trixie")


def checked(path: Path, sha256: str) -> Path:
    """`path`, when its bytes have that sum."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise BuildError(f"cannot use {path.name}: its SHA-256 is {found}, build/pins.toml wants {sha256}")
    return path


def mirror() -> str:
    """The Debian mirror that this machine uses, from apt's own configuration."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line for line in listing.stdout.split() if line.rstrip("/").endswith("/debian")]
    if not found:
        raise BuildError("cannot find a Debian mirror: apt has none configured; run apt-get update on a Debian system")
    return found[0].rstrip("/")


def apt(place: Path, *arguments: str) -> None:
    """Run apt-get in `place` with sources of its own; the system's package state stays untouched."""
    site = mirror()
    etc, log = place / "apt", place / "apt.log"
    if not (etc / "updated").exists():
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (etc / folder).mkdir(parents=True, exist_ok=True)
        # Source packages' security updates come from the same mirror's other tree.
        lines = [
            f"deb-src {site} {SOURCE_SUITE} main",
            f"deb-src {site}-security {SOURCE_SUITE}-security main",
            *(f"deb [arch=amd64,arm64] {site} {suite} main" for suite in BINARY_SUITES),
        ]
        (etc / "sources.list").write_text("\n".join(lines) + "\n")
        (etc / "apt.conf").write_text(
            f'Dir::State "{etc}/state";\nDir::Cache "{etc}/cache";\nDir::Etc::sourcelist "{etc}/sources.list";\n'
            'Dir::Etc::sourceparts "-";\nAPT::Architectures "amd64,arm64";\nAPT::Sandbox::User "root";\n'
            'Acquire::Languages "none";\nAcquire::Retries "5";\n'
            'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";\n'
        )
    env = os.environ | {"APT_CONFIG": str(etc / "apt.conf")}
    if not (etc / "updated").exists():
        cache.run(["apt-get", "-q", "update"], log, cwd=place, env=env)
        (etc / "updated").touch()
    cache.run(["apt-get", "-q", *arguments], log, cwd=place, env=env)


def fetched(names: dict[str, str], *arguments: str) -> list[Path]:
    """The files of these names and sums from the download folder, fetched by apt-get when one is missing."""
    place = cache.root() / "downloads"
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((place / name).exists() for name in names):
            try:
                apt(place, *arguments)
            except BuildError as error:
                raise BuildError(f"{error}\nThe mirror may have newer versions: update build/pins.toml.") from error
        return [checked(place / name, sha256) for name, sha256 in names.items()]


def source(name: str) -> Path:
    """A directory with the unpacked and patched source of `[source.NAME]`."""
    pin, prepare = PINS["source"][name], Path(__file__).parent / "recipes" / f"{name}.prepare.sh"
    files: dict[str, str] = pin["files"]

    def make(place: Path) -> None:
        patched = bool(pin.get("patches"))
        # Those of one kind together: reading the package lists takes apt longer than the downloads.
        alike = [other for other in PINS["source"].values() if bool(other.get("patches")) is patched]
        parts = ["--download-only", *([] if patched else ["--tar-only"])]
        archives = fetched(files, "source", *parts, *(f"{other['package']}={other['version']}" for other in alike))
        for archive in archives:
            with tarfile.open(archive) as opened:
                opened.extractall(place, filter="fully_trusted")
        tree = next(path for path in place.iterdir() if path.is_dir() and path.name != "debian")
        if patched:
            # Fixes end in `.patch`; what fits Python into Debian's layout ends in `.diff`.
            for patch in (place / "debian/patches/series").read_text().split():
                if patch.endswith(".patch") and not patch.startswith("#"):
                    command = ["patch", "-p1", "--forward", "-i", str(place / "debian/patches" / patch)]
                    cache.run(command, place / "patch.log", cwd=tree)
        if prepare.exists():
            cache.run(["sh", "-eu", str(prepare)], place / "prepare.log", cwd=tree)
        tree.rename(place / "tree")

    recipe = prepare if prepare.exists() else ""
    return cache.entry(f"source-{name}", cache.digest(repr(sorted(files.items())), "2", recipe), make) / "tree"


def binary(name: str, target: Target) -> Path:
    """A directory with the unpacked binary package `[binary.NAME]` of the target's processor."""
    pin = PINS["binary"][name]
    file = f"{name}_{quote(pin['version'], safe='+~')}_{target.debian}.deb"

    def make(place: Path) -> None:
        wanted = f"{name}:{target.debian}={pin['version']}"
        for package in fetched({file: pin[target.arch]}, "download", wanted):
            cache.run(["dpkg-deb", "-x", str(package), str(place)], place / ".unpack.log")

    return cache.entry(f"debian-{name}-{target.arch}", cache.digest(pin[target.arch]), make)
