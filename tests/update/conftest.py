"""What tests of the updater share: a release server, and an installed agent of stand-in programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syntra.update import layout
from syntra.update.build_target import build_target
from syntra.update.decide import Wanted
from syntra.update.swap import Before
from syntra.update.transfer import Transfer
from syntra.update.updater import Installation, Updater
from tests.update.release_site import ReleaseSite, stand_in

STABLE = Wanted(channel="stable")


@pytest.fixture
def site() -> Iterator[ReleaseSite]:
    with ReleaseSite() as site:
        yield site


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An agent of version 1.2.0, installed."""
    return installed(tmp_path / "opt", tmp_path)


def installed(root: Path, scratch: Path, version: str = "1.2.0", body: str = "sleep 3600") -> Path:
    program = scratch / "first"
    program.write_bytes(stand_in(version, body))
    layout.install_version(root, version, program)
    layout.write_boot_check(root)
    return root


def updater(root: Path, site: ReleaseSite, scratch: Path, before: Before = lambda step: None) -> Updater:
    installation = Installation(
        root=root, running="1.2.0", target=build_target(), configuration=("--config", "/nowhere")
    )
    return Updater(installation, base_url=site.url, root_keys_file=site.roots_file(scratch), before=before)


def update(one: Updater, wanted: Wanted = STABLE) -> str:
    """Check, prepare and swap. Returns the new version; empty when there is none."""
    with one.lock():
        decision = one.check(wanted, Transfer(20))
        if decision.artifact is None:
            return ""
        one.prepare(decision, Transfer(20), lambda count: None)
        one.swap(decision.version, was_connected=False)
    return decision.version


def tree(root: Path) -> set[str]:
    """All paths below a directory, to see that nothing was left."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}
