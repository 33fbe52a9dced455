"""What end-to-end tests share: the compiled binary, built once for the sources as they are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.program import GIVEN
from tests.engine import missing

ROOT = Path(__file__).resolve().parents[2]
TOOLS_MISSING = 3
"""The status with which scripts/build says that the machine lacks a compiler or another tool."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A first build takes minutes; a test's own time limit starts after it."""
    for item in items:
        if {"built_binary", "artifacts"} & set(getattr(item, "fixturenames", ())) and item.get_closest_marker(
            "timeout"
        ) is None:
            item.add_marker(pytest.mark.timeout(120, func_only=True))


@pytest.fixture(scope="session")
def built_binary() -> Path:
    """The file under test; else dist/syntra-agent-quick, built from these sources if it is not there yet."""
    if GIVEN:
        return Path(GIVEN).resolve()
    ended = subprocess.run(
        [ROOT / "scripts/build", "--quick"], capture_output=True, text=True, check=False, timeout=1800
    )
    if ended.returncode == TOOLS_MISSING:
        missing(f"cannot build the binary: {ended.stderr.strip()}")
    if ended.returncode != 0:
        pytest.fail(f"scripts/build ended with {ended.returncode}:\n{ended.stderr}", pytrace=False)
    return ROOT / str(json.loads(ended.stdout.splitlines()[-1])["path"])
