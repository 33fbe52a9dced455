"""What end-to-end tests share: the compiled binary, built once for the sources as they are."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import syntra
from tests.e2e.installed_machine import NEXT_VERSION
from tests.e2e.program import GIVEN
from tests.engine import missing

ROOT = Path(__file__).resolve().parents[2]
TOOLS_MISSING = 3
"""The status with which scripts/build says that the machine lacks a compiler or another tool."""


LONG_FILES = ("test_story.py", "test_update.py", "test_install.py", "test_telemetry.py", "test_container_logs_kill.py")
"""First, so that no worker has one of them left when the other has nothing left to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A first build takes minutes; a test's own time limit starts after it. Long files come first."""
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    for item in items:
        if {"built_binary", "artifacts"} & set(getattr(item, "fixturenames", ())) and item.get_closest_marker(
            "timeout"
        ) is None:
            item.add_marker(pytest.mark.timeout(120, func_only=True))


@pytest.fixture(scope="session")
def built_binary() -> Path:
    """The file under test; else dist/syntra-agent, built from these sources if it is not there yet."""
    if GIVEN:
        return Path(GIVEN).resolve()
    return _build([str(ROOT / "scripts/build")], ROOT)


@pytest.fixture(scope="session")
def next_binary(built_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sources, built as the version after this one if it is not there yet.

    A mount namespace shows the build another version and another dist/. The paths stay the same, so the caches have
    nearly everything.
    """
    if os.geteuid() != 0:
        missing("only root can build a second version of the binary")
    source = ROOT / "syntra/__init__.py"
    other = tmp_path_factory.mktemp("next") / "init.py"
    other.write_text(source.read_text().replace(f'"{syntra.__version__}"', f'"{NEXT_VERSION}"'))
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syntra-tests"
    dist = caches / "next-dist"
    dist.mkdir(parents=True, exist_ok=True)
    mounts = f"mount --bind {other} {source} && mount --bind {dist} {ROOT / 'dist'}"
    command = ["unshare", "--mount", "sh", "-c", f"{mounts} && exec {ROOT / 'scripts/build'}"]
    return _build(command, ROOT, below=dist)


def _build(command: Sequence[str], folder: Path, below: Path | None = None) -> Path:
    """Run a build; the path of its result, which is in `below` instead of dist/ if that is given."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if ended.returncode == TOOLS_MISSING:
        missing(f"cannot build the binary: {ended.stderr.strip()}")
    if ended.returncode != 0:
        pytest.fail(f"scripts/build ended with {ended.returncode}:\n{ended.stderr}", pytrace=False)
    path = str(json.loads(ended.stdout.splitlines()[-1])["path"])
    return below / Path(path).name if below is not None else folder / path
